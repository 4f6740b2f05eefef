output "arn" {
  description = "ARN of the load test's role."
  value       = aws_iam_role.this.arn
}

output "name" {
  description = "Name of the load test's role."
  value       = aws_iam_role.this.name
}

output "policy" {
  description = "The role's policy without those of the optional tags, as JSON."
  value       = data.aws_iam_policy_document.this.json
}
