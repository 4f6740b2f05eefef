output "parameter_name" {
  description = "Name of the parameter that holds the credential."
  value       = aws_ssm_parameter.this.name
}

output "parameter_arn" {
  description = "ARN of the parameter that holds the credential."
  value       = aws_ssm_parameter.this.arn
}
