output "task_definition_arn" {
  description = "ARN of the task definition."
  value       = aws_ecs_task_definition.this.arn
}

output "container_name" {
  description = "Name of the container, which an override of the command must name."
  value       = "loadtest"
}

output "task_role_arn" {
  description = "ARN of the role that the load test has."
  value       = module.role.arn
}
