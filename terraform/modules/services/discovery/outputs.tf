output "namespace" {
  description = "Name of the namespace."
  value       = aws_service_discovery_private_dns_namespace.this.name
}

output "service_arns" {
  description = "ARN of each service in Cloud Map: `config-service`, `order-service`."
  value       = { for name, service in aws_service_discovery_service.this : name => service.arn }
}
