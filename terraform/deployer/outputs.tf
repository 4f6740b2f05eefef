output "role_arn" {
  description = "ARN of the role."
  value       = local.role_arn
}

output "policies" {
  description = "The policies' documents, by purpose."
  value       = { for name, document in data.aws_iam_policy_document.this : name => document.minified_json }
}
