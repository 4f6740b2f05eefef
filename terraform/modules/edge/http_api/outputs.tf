output "api_id" {
  description = "Id of the API."
  value       = aws_apigatewayv2_api.this.id
}

output "api_endpoint" {
  description = "URL of the API as AWS has it; the `$default` stage adds no path."
  value       = aws_apigatewayv2_api.this.api_endpoint

  # Not usable before requests are routed somewhere.
  depends_on = [aws_apigatewayv2_route.this, aws_apigatewayv2_route.health, aws_apigatewayv2_stage.default]
}

output "client_ip_header" {
  description = "Header in which the load balancer finds the client's address."
  value       = local.client_ip_header
}
