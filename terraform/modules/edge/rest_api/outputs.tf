output "api_id" {
  description = "Id of the API."
  value       = aws_api_gateway_rest_api.this.id
}

output "api_name" {
  description = "Name of the API, a dimension of its metrics."
  value       = aws_api_gateway_rest_api.this.name
}

output "stage_arn" {
  description = "ARN of the stage: what the web ACL guards."
  value       = aws_api_gateway_stage.this.arn
}

output "stage_name" {
  description = "Name of the stage, a dimension of its metrics."
  value       = aws_api_gateway_stage.this.stage_name
}

output "path_prefix" {
  description = "What the services find before every path."
  value       = "/${var.stage_name}"
}

output "invoke_url" {
  description = "Base URL of the API, without a trailing slash."
  value       = aws_api_gateway_stage.this.invoke_url

  depends_on = [aws_api_gateway_method_settings.all]
}
