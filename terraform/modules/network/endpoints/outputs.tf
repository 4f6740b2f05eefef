output "security_group_id" {
  description = "Id of the security group of the interface endpoints."
  value       = aws_security_group.this.id
}

output "endpoint_ids" {
  description = "Id of each endpoint, by service. Tasks start once all are there."
  value       = merge({ for service, endpoint in aws_vpc_endpoint.interface : service => endpoint.id }, { for service, endpoint in aws_vpc_endpoint.gateway : service => endpoint.id })
}

output "policies" {
  description = "Policy of each endpoint, by service, as JSON."
  value       = { for service, document in data.aws_iam_policy_document.this : service => document.json }
}
