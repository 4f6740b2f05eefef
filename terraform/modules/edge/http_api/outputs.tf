output "api_id" {
  description = "Id of the API."
  value       = aws_apigatewayv2_api.this.id
}

output "api_endpoint" {
  description = "URL of the API as AWS has it; the `$default` stage adds no path."
  value       = aws_apigatewayv2_api.this.api_endpoint

  # Not usable before requests are routed somewhere.
  depends_on = [aws_apigatewayv2_route.this, aws_apigatewayv2_stage.default]
}
