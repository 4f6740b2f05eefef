output "api_url" {
  description = "Base URL of the public API, without a trailing '/'."
  value       = "${var.emulator_url}/_aws/execute-api/${module.http_api.api_id}"
}

output "vpc_id" {
  description = "Id of the VPC whose endpoints the tasks' calls leave through."
  value       = module.network.vpc_id
}

output "task_roles" {
  description = "Name of each program's role: the services' task roles, the execution role and the load test's."
  value = merge(
    { for service, arn in module.services.task_role_arns : service => reverse(split("/", arn))[0] },
    { execution = reverse(split("/", module.services.execution_role_arn))[0], load-test = module.load_test_role.name },
  )
}

output "user_pool_id" {
  description = "Id of the user pool."
  value       = module.identity.user_pool_id
}

output "client_id" {
  description = "Id of the app client: the audience of ID tokens."
  value       = module.identity.client_id
}

output "issuer" {
  description = "Issuer of tokens. It is AWS's own URL, also behind the emulator."
  value       = module.identity.issuer
}

output "jwks_url" {
  description = "Where the emulator serves the pool's keys; not below the issuer."
  value       = local.jwks_url
}

output "table_name" {
  description = "Name of the configuration table."
  value       = module.storage.table_name
}

output "journal_table_name" {
  description = "Name of the change journal's table."
  value       = module.storage.journal_table_name
}

output "history_table_name" {
  description = "Name of the history's table."
  value       = module.storage.history_table_name
}

output "parameter_root" {
  description = "Path in Parameter Store under which configuration lies."
  value       = module.storage.parameter_root
}

output "blob_bucket" {
  description = "Name of the bucket behind `blob_config_*`; null without the tag."
  value       = local.blob_bucket
}

output "secrets_arn" {
  description = "What the ARNs of all secret_config_* secrets begin with: the secret root's; null without them."
  value       = local.secrets_arn
}

output "secret_root" {
  description = "Prefix of the names of secrets behind `secret_config_*`; null without the tag."
  value       = local.secret_root
}

output "secret_kms_key_arn" {
  description = "ARN of the key that operators encrypt these secrets with; null without the tag."
  value       = var.secrets ? module.storage.kms_key_arn : null
}

output "refresh_credential_parameter" {
  description = "Name of the parameter that holds the refresh credential."
  value       = module.refresh_credential.parameter_name
}

output "operator_tenant" {
  description = "Tenant whose admins write the schemas of all tenants; null without one."
  value       = var.operator_tenant
}

output "cloud_map_namespace" {
  description = "Name of the Cloud Map namespace."
  value       = aws_service_discovery_http_namespace.this.name
}

output "cloud_map_namespace_id" {
  description = "Id of the Cloud Map namespace."
  value       = aws_service_discovery_http_namespace.this.id
}

output "config_service_id" {
  description = "Id of config-service in Cloud Map."
  value       = aws_service_discovery_service.this["config-service"].id
}

output "order_service_id" {
  description = "Id of order-service in Cloud Map."
  value       = aws_service_discovery_service.this["order-service"].id
}

output "config_target_group_arn" {
  description = "ARN of config-service's target group."
  value       = module.services.target_group_arns["config"]
}

output "order_target_group_arn" {
  description = "ARN of order-service's target group."
  value       = module.services.target_group_arns["order"]
}

output "alb_name" {
  description = "Name of the load balancer."
  value       = module.services.alb_name
}

output "alb_url" {
  description = "The emulator's address of the load balancer."
  value       = local.alb_url
}

output "invalidator_function_name" {
  description = "Name of the invalidator function."
  value       = module.refresh.function_name
}

output "invalidator_log_group" {
  description = "Name of the invalidator's log group."
  value       = module.observability.log_group_names["invalidator"]
}

output "ecs_cluster" {
  description = "Name of the ECS cluster."
  value       = module.services.cluster_name
}
