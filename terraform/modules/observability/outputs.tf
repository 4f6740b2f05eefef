output "log_group_names" {
  description = "Name of each log group, by the program that writes to it."
  value       = { for program, group in aws_cloudwatch_log_group.this : program => group.name }
}

output "log_group_arns" {
  description = "ARN of each log group, by the program that writes to it."
  value       = { for program, group in aws_cloudwatch_log_group.this : program => group.arn }
}

output "dashboard_name" {
  description = "Name of the dashboard."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
