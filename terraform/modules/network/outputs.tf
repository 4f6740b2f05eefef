output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, in the order of `availability_zones`."
  value       = [for zone in var.availability_zones : aws_subnet.private[zone].id]
}

output "security_group_ids" {
  description = "Id of each security group by role: `edge`, `alb`, `config-service`, `order-service`, `invalidator`."
  value       = { for role, group in aws_security_group.this : role => group.id }
}

output "private_route_table_ids" {
  description = "Ids of the private route tables, to which gateway endpoints attach."
  value       = [for table in aws_route_table.private : table.id]
}

output "api_caller_names" {
  description = "Keys of the security groups whose members call AWS APIs."
  value       = local.api_callers
}
