# The way of a change: the invalidator, its triggers and dead-letter queues, and the refresh credential.

module "refresh" {
  source = "../modules/refresh"

  name                 = local.name
  function_name        = local.function_name
  account_id           = local.account_id
  region               = var.region
  package              = local.package["invalidator"]
  architecture         = local.lambda_architecture
  reserved_concurrency = var.invalidator_reserved_concurrency

  permissions_boundary_arn = var.permissions_boundary_arn

  log_group_name = module.observability.log_group_names["invalidator"]
  log_group_arn  = local.log_group_arns["invalidator"]

  subnet_ids                   = module.network.private_subnet_ids
  security_group_id            = module.network.security_group_ids["invalidator"]
  refresh_port                 = local.ports.config_refresh
  cloud_map_namespace          = module.discovery.namespace
  cloud_map_service            = "config-service"
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
