# The local target: the modules that AWS gets too, plus what only an emulator needs (api.tf, discovery.tf). The services
# run as ECS tasks where there is Docker (tasks.tf), else as local processes that register in the target groups and in
# Cloud Map.

data "aws_caller_identity" "current" {}

locals {
  account_id    = data.aws_caller_identity.current.account_id
  function_name = "${var.name}-invalidator"
  blob_bucket   = one(module.blobs[*].bucket_name)

  # The tag `secret_config_*`, if `secrets` is set. Operators make the secrets, so that no state and no plan holds one.
  secret_root = var.secrets ? "${var.name}/config" : null
  secrets_arn = var.secrets ? "arn:aws:secretsmanager:${var.region}:${local.account_id}:secret:${local.secret_root}" : null

  image_repository_arns = ["arn:aws:ecr:${var.region}:${local.account_id}:repository/${var.name}/*"]
}

module "network" {
  source = "../modules/network"

  name               = var.name
  availability_zones = ["${var.region}a", "${var.region}b"]

  # No program resolves names here, and DNS would add ten seconds to every apply.
  dns_hostnames = false

  ports = {
    listener       = 80
    config_http    = var.config_http_port
    config_grpc    = var.config_grpc_port
    config_refresh = var.config_refresh_port
    order_http     = var.order_http_port
  }
}

# The same VPC endpoints as on AWS, for their policies: the emulator checks the calls of tasks and functions against them, and
# denies a call for which there is no endpoint.
module "endpoint_statements" {
  source = "../modules/network/endpoint_statements"

  region                           = var.region
  image_repository_arns            = local.image_repository_arns
  log_group_arns                   = values(module.observability.log_group_arns)
  parameters_arn                   = "arn:aws:ssm:${var.region}:${local.account_id}:parameter${var.parameter_root}"
  refresh_credential_parameter_arn = module.refresh_credential.parameter_arn
  table_arn                        = module.storage.table_arn
  journal_table_arn                = module.storage.journal_table_arn
  history_table_arn                = module.storage.history_table_arn
  table_scan_enabled               = var.operator_tenant != null
  blob_bucket_arn                  = one(module.blobs[*].bucket_arn)
  secrets_arn                      = local.secrets_arn
  load_test                        = { user_pool_arn = module.identity.user_pool_arn }
}

module "endpoints" {
  source = "../modules/network/endpoints"

  name            = var.name
  account_id      = local.account_id
  region          = var.region
  vpc_id          = module.network.vpc_id
  subnet_ids      = module.network.private_subnet_ids
  route_table_ids = module.network.private_route_table_ids

  caller_security_group_ids = {
    for name in module.network.api_caller_names : name => module.network.security_group_ids[name]
  }

  interface_endpoints = module.endpoint_statements.interface_endpoints
  gateway_endpoints   = module.endpoint_statements.gateway_endpoints
  gateway_callers     = { for service in ["s3", "dynamodb"] : service => module.network.api_caller_names }
}

module "load_test_role" {
  source = "../modules/load_test/role"

  name                      = var.name
  account_id                = local.account_id
  region                    = var.region
  user_pool_arn             = module.identity.user_pool_arn
  table_arn                 = module.storage.table_arn
  parameter_root            = var.parameter_root
  blob_bucket               = local.blob_bucket
  secret_root               = local.secret_root
  kms_key_arn               = module.storage.kms_key_arn
  cloud_map_namespace       = aws_service_discovery_http_namespace.this.name
  invalidator_log_group_arn = module.observability.log_group_arns["invalidator"]
}

module "identity" {
  source = "../modules/identity"

  name   = var.name
  region = var.region
  mfa    = "OFF"

  # Scripts sign in with a password; the emulator is the only one to see it.
  explicit_auth_flows = [
    "ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH",
  ]
}

module "storage" {
  source = "../modules/storage"

  name                     = var.name
  table_name               = var.table_name
  journal_table_name       = "${var.table_name}Journal"
  history_table_name       = "${var.table_name}History"
  parameter_root           = var.parameter_root
  global_defaults          = var.global_defaults
  key_deletion_window_days = 7
}

# The tag `blob_config_*`, if `blobs` is set.
module "blobs" {
  source = "../modules/storage/blobs"
  count  = var.blobs ? 1 : 0

  name          = var.name
  account_id    = local.account_id
  region        = var.region
  kms_key_arn   = module.storage.kms_key_arn
  force_destroy = true

  # The provider waits for nearly a minute until a bucket has its lifecycle rule, and no version grows old here.
  noncurrent_retention_days = null
}

module "refresh_credential" {
  source = "../modules/refresh/credential"

  parameter_root = module.storage.parameter_root
  kms_key_arn    = module.storage.kms_key_arn
}

module "services" {
  source = "../modules/services"

  name       = var.name
  account_id = local.account_id
  region     = var.region
  fargate    = length(var.images) > 0

  vpc_id                       = module.network.vpc_id
  subnet_ids                   = module.network.private_subnet_ids
  alb_security_group_id        = module.network.security_group_ids["alb"]
  config_http_port             = var.config_http_port
  order_http_port              = var.order_http_port
  deregistration_delay_seconds = var.deregistration_delay_seconds

  table_arn                        = module.storage.table_arn
  journal_table_arn                = module.storage.journal_table_arn
  history_table_arn                = module.storage.history_table_arn
  table_scan_enabled               = var.operator_tenant != null
  parameter_root                   = module.storage.parameter_root
  blob_bucket                      = local.blob_bucket
  secret_root                      = local.secret_root
  refresh_credential_parameter_arn = module.refresh_credential.parameter_arn
  kms_key_arn                      = module.storage.kms_key_arn
  cloud_map_namespace              = aws_service_discovery_http_namespace.this.name
  cloud_map_service                = aws_service_discovery_service.this["config-service"].name
  log_group_arns = {
    config-service = module.observability.log_group_arns["config-service"]
    order-service  = module.observability.log_group_arns["order-service"]
  }
  image_repository_arns = local.image_repository_arns
}

module "refresh" {
  source = "../modules/refresh"

  name          = var.name
  function_name = local.function_name
  account_id    = local.account_id
  region        = var.region
  package       = { filename = var.invalidator_zip }
  architecture  = var.invalidator_architecture

  extra_environment = {
    AWS_ENDPOINT_URL          = var.emulator_url
    AWS_ENDPOINT_URL_DYNAMODB = local.stores_url
    AWS_ENDPOINT_URL_S3       = local.stores_url
    AWS_ENDPOINT_URL_SSM      = local.stores_url
  }

  log_group_name = module.observability.log_group_names["invalidator"]
  log_group_arn  = module.observability.log_group_arns["invalidator"]

  subnet_ids                   = module.network.private_subnet_ids
  security_group_id            = module.network.security_group_ids["invalidator"]
  refresh_port                 = var.config_refresh_port
  cloud_map_namespace          = aws_service_discovery_http_namespace.this.name
  cloud_map_service            = aws_service_discovery_service.this["config-service"].name
  refresh_credential_parameter = module.refresh_credential.parameter_name

  parameter_root     = module.storage.parameter_root
  blob_bucket        = local.blob_bucket
  secret_root        = local.secret_root
  table_name         = module.storage.table_name
  journal_table_name = module.storage.journal_table_name
  journal_table_arn  = module.storage.journal_table_arn
  history_table_name = module.storage.history_table_name
  history_table_arn  = module.storage.history_table_arn
  table_stream_arn   = module.storage.table_stream_arn
  kms_key_arn        = module.storage.kms_key_arn

  history_retention_days = var.history_retention_days
}

module "observability" {
  source = "../modules/observability"

  name   = var.name
  region = var.region

  log_groups = {
    config-service = "/${var.name}/config-service"
    order-service  = "/${var.name}/order-service"
    invalidator    = "/aws/lambda/${local.function_name}"
  }
  log_retention_days = 1

  function_name           = local.function_name
  dead_letter_queue_names = module.refresh.dead_letter_queue_names
  alb_arn_suffix          = module.services.alb_arn_suffix
}
