# The ECS cluster, the load balancer, Cloud Map, and the ECS service of each program.

module "services" {
  source = "../modules/services"

  name       = local.name
  account_id = local.account_id
  region     = var.region
  fargate    = true

  permissions_boundary_arn = var.permissions_boundary_arn

  vpc_id                = module.network.vpc_id
  subnet_ids            = module.network.private_subnet_ids
  alb_security_group_id = module.network.security_group_ids["alb"]
  listener_port         = local.ports.listener
  certificate_arn       = var.certificate_arn
  path_prefix           = local.path_prefix
  config_http_port      = local.ports.config_http
  order_http_port       = local.ports.order_http
  deletion_protection   = var.deletion_protection

  table_arn                        = module.storage.table_arn
  journal_table_arn                = module.storage.journal_table_arn
  history_table_arn                = module.storage.history_table_arn
  table_scan_enabled               = var.operator_tenant != null
  parameter_root                   = module.storage.parameter_root
  blob_bucket                      = local.blob_bucket
  secret_root                      = local.secret_root
  refresh_credential_parameter_arn = module.refresh_credential.parameter_arn
  kms_key_arn                      = module.storage.kms_key_arn
  cloud_map_namespace              = module.discovery.namespace
  jwks_object_arn                  = module.jwks_mirror.object_arn
  image_repository_arns            = values(module.images.repository_arns)
  log_group_arns = {
    for program in concat(["config-service", "order-service"], var.load_test_runner ? ["load-test"] : []) :
    program => local.log_group_arns[program]
  }
}

module "discovery" {
  source = "../modules/services/discovery"

  namespace = local.namespace
  vpc_id    = module.network.vpc_id
}

locals {
  # Of the 40 reads a second of the whole account and region, 30 are for these tasks together, however many there are; the
  # higher throughput is counted as 1,000.
  parameter_calls_per_second = max(1, floor((var.parameter_store_high_throughput ? 750 : 30) / var.tasks["config-service"].max))

  token_settings = {
    TAGGED_CONFIG_JWKS_URL    = module.jwks_mirror.jwks_url
    TAGGED_CONFIG_ISSUER      = module.identity.issuer
    TAGGED_CONFIG_AUDIENCE    = module.identity.client_id
    TAGGED_CONFIG_DRAIN_DELAY = "10s"
  }
  edge_settings = merge(
    local.path_prefix == null ? {} : { TAGGED_CONFIG_PATH_PREFIX = local.path_prefix },
    length(var.allowed_origins) == 0 ? {} : { TAGGED_CONFIG_ALLOWED_ORIGINS = join(",", var.allowed_origins) },
  )

  # Names of the optional stores. Without its variable config-service does not know a store's keys.
  store_settings = merge(
    var.blobs ? { TAGGED_CONFIG_BLOB_BUCKET = local.blob_bucket, TAGGED_CONFIG_BLOB_MAX_BYTES = tostring(var.blob_max_bytes) } : {},
    var.secrets ? { TAGGED_CONFIG_SECRET_ROOT = local.secrets_arn } : {},
  )

  # Whose admins write the schemas of all tenants.
  operator_settings = var.operator_tenant == null ? {} : { TAGGED_CONFIG_OPERATOR_TENANT = var.operator_tenant }

  programs = {
    config-service = {
      target_group = "config"
      ports = {
        http    = local.ports.config_http
        grpc    = local.ports.config_grpc
        refresh = local.ports.config_refresh
      }
      environment = merge(local.store_settings, local.operator_settings, {
        TAGGED_CONFIG_GRPC_ADDR      = "0.0.0.0:${local.ports.config_grpc}"
        TAGGED_CONFIG_REFRESH_ADDR   = "0.0.0.0:${local.ports.config_refresh}"
        TAGGED_CONFIG_HTTP_ADDR      = "0.0.0.0:${local.ports.config_http}"
        TAGGED_CONFIG_TABLE          = module.storage.table_name
        TAGGED_CONFIG_JOURNAL_TABLE  = module.storage.journal_table_name
        TAGGED_CONFIG_HISTORY_TABLE  = module.storage.history_table_name
        TAGGED_CONFIG_PARAMETER_ROOT = module.storage.parameter_root
        TAGGED_CONFIG_CACHE_TTL      = var.cache_ttl
        TAGGED_CONFIG_CACHE_BYTES    = tostring(var.cache_bytes)
        TAGGED_CONFIG_EMF_INTERVAL   = "60s"

        TAGGED_CONFIG_HISTORY_RETENTION_DAYS     = tostring(var.history_retention_days)
        TAGGED_CONFIG_HISTORY_REQUIRED           = tostring(var.history_required)
        TAGGED_CONFIG_PARAMETER_CALLS_PER_SECOND = tostring(local.parameter_calls_per_second)

        # Where the other tasks are, for a write that waits until all have it.
        TAGGED_CONFIG_CLOUD_MAP_NAMESPACE = module.discovery.namespace
        TAGGED_CONFIG_CLOUD_MAP_SERVICE   = "config-service"
        TAGGED_CONFIG_REFRESH_PORT        = tostring(local.ports.config_refresh)
      })
      secrets = { TAGGED_CONFIG_REFRESH_CREDENTIAL = module.refresh_credential.parameter_arn }
    }
    order-service = {
      target_group = "order"
      ports        = { http = local.ports.order_http }
      environment = {
        TAGGED_CONFIG_HTTP_ADDR = "0.0.0.0:${local.ports.order_http}"
        TAGGED_CONFIG_ENDPOINTS = "http://config-service.${local.namespace}:${local.ports.config_grpc}"
      }
      secrets = {}
    }
  }
}

module "task" {
  source   = "../modules/services/task"
  for_each = local.programs

  name         = local.name
  region       = var.region
  program      = each.key
  image        = "${module.images.repository_urls[each.key]}:${var.image_tag}"
  architecture = var.architecture
  cpu          = var.tasks[each.key].cpu
  memory_mib   = var.tasks[each.key].memory_mib
  min_tasks    = var.tasks[each.key].min
  max_tasks    = var.tasks[each.key].max
  spot_percent = var.spot_percent

  ports              = each.value.ports
  environment        = merge(local.token_settings, local.edge_settings, each.value.environment)
  secrets            = each.value.secrets
  secrets_generation = var.refresh_credential_generation
  log_group_name     = module.observability.log_group_names[each.key]

  execution_role_arn      = module.services.execution_role_arn
  task_role_arn           = module.services.task_role_arns[each.key]
  cluster_arn             = module.services.cluster_arn
  cluster_name            = module.services.cluster_name
  subnet_ids              = module.network.private_subnet_ids
  security_group_id       = module.network.security_group_ids[each.key]
  target_group_arn        = module.services.target_group_arns[each.value.target_group]
  target_group_arn_suffix = module.services.target_group_arn_suffixes[each.value.target_group]
  alb_arn_suffix          = module.services.alb_arn_suffix
  discovery_service_arn   = module.discovery.service_arns[each.key]
  autoscaling_enabled     = var.autoscaling_enabled

  # A task that starts before it can reach AWS fails for three minutes; one without a listener is refused by ECS.
  depends_on = [module.endpoints, module.services]
}
