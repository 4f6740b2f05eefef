# The load-test runner: a task in the VPC, if `load_test_runner` is set.

module "load_test" {
  source = "../modules/load_test"
  count  = var.load_test_runner ? 1 : 0

  name               = local.name
  account_id         = local.account_id
  region             = var.region
  image              = "${module.images.repository_urls["loadtest"]}:${var.image_tag}"
  architecture       = var.architecture
  log_group_name     = module.observability.log_group_names["load-test"]
  execution_role_arn = module.services.execution_role_arn

  permissions_boundary_arn = var.permissions_boundary_arn

  vpc_id           = module.network.vpc_id
  alb              = { dns_name = module.services.alb_dns_name, zone_id = module.services.alb_zone_id }
  certificate_name = var.certificate_name

  # A tag that is left out has no variable.
  environment = merge({ for name, value in { BLOB_BUCKET = local.blob_bucket, SECRET_ROOT = local.secret_root } : name => value if value != null }, {
    CLOUD_MAP_NAMESPACE   = module.discovery.namespace
    USER_POOL_ID          = module.identity.user_pool_id
    CLIENT_ID             = module.identity.client_id
    TABLE_NAME            = module.storage.table_name
    PARAMETER_ROOT        = module.storage.parameter_root
    LOADTEST_COMMIT       = var.image_tag
    INVALIDATOR_LOG_GROUP = module.observability.log_group_names["invalidator"]
  })

  user_pool_arn             = module.identity.user_pool_arn
  table_arn                 = module.storage.table_arn
  parameter_root            = module.storage.parameter_root
  blob_bucket               = local.blob_bucket
  secret_root               = local.secret_root
  kms_key_arn               = module.storage.kms_key_arn
  cloud_map_namespace       = module.discovery.namespace
  invalidator_log_group_arn = local.log_group_arns["invalidator"]
}
