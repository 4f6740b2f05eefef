output "role_arn" {
  description = "ARN of the role that API Gateway logs with, available once it is set."
  value       = aws_iam_role.api_gateway.arn

  depends_on = [aws_api_gateway_account.this]
}
