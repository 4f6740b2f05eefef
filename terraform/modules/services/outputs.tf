output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "cluster_arn" {
  description = "ARN of the ECS cluster."
  value       = aws_ecs_cluster.this.arn
}

output "alb_name" {
  description = "Name of the load balancer."
  value       = aws_lb.this.name
}

output "alb_arn" {
  description = "ARN of the load balancer."
  value       = aws_lb.this.arn
}

output "alb_arn_suffix" {
  description = "End of the load balancer's ARN, a dimension of its metrics."
  value       = aws_lb.this.arn_suffix
}

output "alb_dns_name" {
  description = "DNS name of the load balancer, inside the VPC."
  value       = aws_lb.this.dns_name
}

output "alb_zone_id" {
  description = "Zone that has this DNS name, for an alias to it."
  value       = aws_lb.this.zone_id
}

output "listener_arn" {
  description = "ARN of the listener, available once its rules are."
  value       = aws_lb_listener.http.arn

  depends_on = [aws_lb_listener_rule.this]
}

output "target_group_arns" {
  description = "ARN of each target group: `config`, `order`."
  value       = { for name, group in aws_lb_target_group.this : name => group.arn }
}

output "target_group_arn_suffixes" {
  description = "End of each target group's ARN, a dimension of its metrics: `config`, `order`."
  value       = { for name, group in aws_lb_target_group.this : name => group.arn_suffix }
}

output "execution_role_arn" {
  description = "ARN of the role that starts tasks."
  value       = aws_iam_role.execution.arn
}

output "task_role_arns" {
  description = "ARN of each task role: `config-service`, `order-service`."
  value       = { for name, role in aws_iam_role.task : name => role.arn }
}
