# Only where there is Docker: the services as ECS services, by the module that AWS gets too. The emulator starts their
# tasks as containers, and knows no scaling. Without images, they are local processes (the launcher's).

locals {
  jwks_url = "${var.emulator_url}/${module.identity.user_pool_id}/.well-known/jwks.json"

  # Names of the optional stores. Without its variable config-service does not know a store's keys.
  store_settings = merge(
    var.blobs ? { TAGGED_CONFIG_BLOB_BUCKET = local.blob_bucket } : {},
    var.secrets ? { TAGGED_CONFIG_SECRET_ROOT = local.secrets_arn } : {},
  )

  # Whose admins write the schemas of all tenants.
  operator_settings = var.operator_tenant == null ? {} : { TAGGED_CONFIG_OPERATOR_TENANT = var.operator_tenant }

  programs = {
    config-service = {
      target_group = "config"
      tasks        = var.config_tasks
      ports        = { http = var.config_http_port, grpc = var.config_grpc_port, refresh = var.config_refresh_port }
      environment = merge(local.store_settings, local.operator_settings, {
        TAGGED_CONFIG_GRPC_ADDR      = "0.0.0.0:${var.config_grpc_port}"
        TAGGED_CONFIG_REFRESH_ADDR   = "0.0.0.0:${var.config_refresh_port}"
        TAGGED_CONFIG_HTTP_ADDR      = "0.0.0.0:${var.config_http_port}"
        TAGGED_CONFIG_TABLE          = module.storage.table_name
        TAGGED_CONFIG_JOURNAL_TABLE  = module.storage.journal_table_name
        TAGGED_CONFIG_HISTORY_TABLE  = module.storage.history_table_name
        TAGGED_CONFIG_PARAMETER_ROOT = module.storage.parameter_root

        TAGGED_CONFIG_HISTORY_RETENTION_DAYS = tostring(var.history_retention_days)
        TAGGED_CONFIG_HISTORY_REQUIRED       = tostring(var.history_required)

        # Where the other tasks are, for a write that waits until all have it.
        TAGGED_CONFIG_CLOUD_MAP_NAMESPACE = aws_service_discovery_http_namespace.this.name
        TAGGED_CONFIG_CLOUD_MAP_SERVICE   = aws_service_discovery_service.this["config-service"].name
        TAGGED_CONFIG_REFRESH_PORT        = tostring(var.config_refresh_port)

        # Of the account's 40 reads a second, as on AWS.
        TAGGED_CONFIG_PARAMETER_CALLS_PER_SECOND = tostring(max(1, floor(30 / var.config_tasks)))
        # Far above the second that the demo allows: what it sees in time came by push, not by expiry.
        TAGGED_CONFIG_CACHE_TTL   = "5m"
        TAGGED_CONFIG_CACHE_BYTES = tostring(256 * 1024 * 1024)
      })
      secrets = { TAGGED_CONFIG_REFRESH_CREDENTIAL = module.refresh_credential.parameter_arn }
    }
    order-service = {
      target_group = "order"
      tasks        = 1
      ports        = { http = var.order_http_port }
      environment = {
        TAGGED_CONFIG_HTTP_ADDR = "0.0.0.0:${var.order_http_port}"
        TAGGED_CONFIG_ENDPOINTS = "http://config-service.${var.namespace}:${var.config_grpc_port}"
      }
      secrets = {}
    }
  }
}

module "task" {
  source   = "../modules/services/task"
  for_each = var.images

  name         = var.name
  region       = var.region
  program      = each.key
  image        = each.value
  architecture = var.invalidator_architecture == "arm64" ? "ARM64" : "X86_64"
  cpu          = 256
  memory_mib   = 1024
  min_tasks    = local.programs[each.key].tasks

  ports = local.programs[each.key].ports
  environment = merge(local.programs[each.key].environment, {
    TAGGED_CONFIG_JWKS_URL = local.jwks_url
    TAGGED_CONFIG_ISSUER   = module.identity.issuer
    TAGGED_CONFIG_AUDIENCE = module.identity.client_id
  }, length(var.allowed_origins) == 0 ? {} : { TAGGED_CONFIG_ALLOWED_ORIGINS = join(",", var.allowed_origins) })
  secrets        = local.programs[each.key].secrets
  log_group_name = module.observability.log_group_names[each.key]

  execution_role_arn      = module.services.execution_role_arn
  task_role_arn           = module.services.task_role_arns[each.key]
  cluster_arn             = module.services.cluster_arn
  cluster_name            = module.services.cluster_name
  subnet_ids              = module.network.private_subnet_ids
  security_group_id       = module.network.security_group_ids[each.key]
  target_group_arn        = module.services.target_group_arns[local.programs[each.key].target_group]
  target_group_arn_suffix = module.services.target_group_arn_suffixes[local.programs[each.key].target_group]
  alb_arn_suffix          = module.services.alb_arn_suffix
  discovery_service_arn   = aws_service_discovery_service.this[each.key].arn
  autoscaling_enabled     = false

  depends_on = [module.services, module.refresh]
}
