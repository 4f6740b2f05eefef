output "vpc_link_id" {
  description = "Id of the link (V2)."
  value       = aws_apigatewayv2_vpc_link.this.id
}
