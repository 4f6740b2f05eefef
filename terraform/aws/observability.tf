# Log groups, the dashboard, alarms with their topic, and saved queries.

locals {
  log_groups = merge(
    {
      config-service = "/${local.name}/config-service"
      order-service  = "/${local.name}/order-service"
      invalidator    = "/aws/lambda/${local.function_name}"
      jwks-mirror    = "/aws/lambda/${local.name}-jwks-mirror"
      api            = "/${local.name}/api"
      flow-logs      = "/${local.name}/flow-logs"
      # WAF takes no other beginning.
      waf = "aws-waf-logs-${local.name}"
    },
    var.load_test_runner ? { load-test = "/${local.name}/load-test" } : {},
  )

  # From names, which are known at plan.
  log_group_arns = {
    for program in keys(local.log_groups) :
    program => "arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:${module.observability.log_group_names[program]}"
  }

  target_group_arn_suffixes = {
    config-service = module.services.target_group_arn_suffixes["config"]
    order-service  = module.services.target_group_arn_suffixes["order"]
  }

  rest_api = var.api_type == "rest" ? { name = local.name, stage = local.stage_name } : null

  dead_letter_queue_names = merge(module.refresh.dead_letter_queue_names, { key-mirror = module.jwks_mirror.dead_letter_queue_name })
}

module "operations_key" {
  source = "../modules/observability/key"

  name                 = local.name
  account_id           = local.account_id
  region               = var.region
  deletion_window_days = var.key_deletion_window_days
}

module "observability" {
  source = "../modules/observability"

  name   = local.name
  region = var.region

  log_groups         = local.log_groups
  log_retention_days = var.log_retention_days
  log_kms_key_arn    = module.operations_key.key_arn

  function_name             = local.function_name
  dead_letter_queue_names   = local.dead_letter_queue_names
  alb_arn_suffix            = module.services.alb_arn_suffix
  target_group_arn_suffixes = local.target_group_arn_suffixes
  cluster_name              = local.name
  rest_api                  = local.rest_api
  http_api_id               = one(module.http_api[*].api_id)
  web_acl_name              = module.edge.web_acl_name
}

module "alerts" {
  source = "../modules/observability/alerts"

  name        = local.name
  account_id  = local.account_id
  kms_key_arn = module.operations_key.key_arn
  emails      = var.alert_emails
}

module "alarms" {
  source = "../modules/observability/alarms"

  name                      = local.name
  function_name             = local.function_name
  key_mirror_function_name  = module.jwks_mirror.function_name
  rule_names                = module.refresh.rule_names
  backends                  = concat(["dynamodb", "parameter-store"], var.blobs ? ["s3"] : [], var.secrets ? ["secrets-manager"] : [])
  stream_mapping_id         = module.refresh.stream_mapping_id
  dead_letter_queue_names   = local.dead_letter_queue_names
  alb_arn_suffix            = module.services.alb_arn_suffix
  target_group_arn_suffixes = local.target_group_arn_suffixes
  rest_api                  = local.rest_api
  http_api_id               = one(module.http_api[*].api_id)
  alarm_action_arns         = concat([module.alerts.topic_arn], sort(var.alert_topic_arns))
}

module "queries" {
  source = "../modules/observability/queries"
  count  = var.log_queries_enabled ? 1 : 0

  name            = local.name
  log_group_names = module.observability.log_group_names
}
