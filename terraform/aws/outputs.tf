output "api_url" {
  description = "Base URL of the public API, without a trailing slash."
  value       = var.api_type == "rest" ? module.rest_api[0].invoke_url : module.http_api[0].api_endpoint
}

output "region" {
  description = "Region of everything."
  value       = var.region
}

output "image_tag" {
  description = "Tag of the images and packages that run."
  value       = var.image_tag
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
  description = "Issuer of tokens."
  value       = module.identity.issuer
}

output "table_name" {
  description = "Name of the configuration table."
  value       = module.storage.table_name
}

output "parameter_root" {
  description = "Path in Parameter Store under which configuration lies."
  value       = module.storage.parameter_root
}

output "blob_bucket" {
  description = "Name of the bucket behind `blob_config_*`; null without the tag."
  value       = local.blob_bucket
}

output "secret_root" {
  description = "Prefix of the names of secrets behind `secret_config_*`; null without the tag."
  value       = local.secret_root
}

output "secret_kms_key_arn" {
  description = "ARN of the key that operators encrypt these secrets with; null without the tag."
  value       = var.secrets ? module.storage.kms_key_arn : null
}

output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = module.services.cluster_name
}

output "service_names" {
  description = "Names of the ECS services."
  value       = [for task in module.task : task.service_name]
}

output "task_definition_arns" {
  description = "ARN of the applied task definition, with its revision, by service."
  value       = { for program, task in module.task : program => task.task_definition_arn }
}

output "alb_dns_name" {
  description = "DNS name of the load balancer, inside the VPC."
  value       = module.services.alb_dns_name
}

output "cloud_map_namespace" {
  description = "Name of the Cloud Map namespace."
  value       = module.discovery.namespace
}

output "dashboard_url" {
  description = "The dashboard."
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards:name=${module.observability.dashboard_name}"
}

output "log_group_names" {
  description = "Name of each log group, by what writes to it."
  value       = module.observability.log_group_names
}

output "repository_urls" {
  description = "URL of each image repository, by program."
  value       = module.images.repository_urls
}

output "artifacts_bucket" {
  description = "Name of the bucket for the functions' zips."
  value       = module.images.artifacts_bucket
}

output "load_test_command" {
  description = "Command that starts a load test in the VPC; null where there is no runner."
  value       = var.load_test_runner ? "aws ecs run-task --region ${var.region} --cluster ${module.services.cluster_name} --launch-type FARGATE --task-definition ${module.load_test[0].task_definition_arn} --network-configuration 'awsvpcConfiguration={subnets=[${join(",", module.network.private_subnet_ids)}],securityGroups=[${module.network.security_group_ids["load-test"]}]}'" : null
}
