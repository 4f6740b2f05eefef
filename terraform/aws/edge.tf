# One of two APIs (ADR 7). WAF takes a REST API's stage; of an HTTP API it can guard only the load balancer behind it,
# where the client's address is in a header.

module "edge" {
  source = "../modules/edge"

  name                   = local.name
  forwarded_ip_header    = one(module.http_api[*].client_ip_header)
  path_prefix            = local.path_prefix
  requests_per_5_minutes = var.requests_per_5_minutes
  unlimited_cidr_blocks  = var.unlimited_cidr_blocks
  log_group_arn          = local.log_group_arns["waf"]

  protected_resources = var.api_type == "rest" ? { stage = module.rest_api[0].stage_arn } : { load_balancer = module.services.alb_arn }
}

module "vpc_link" {
  source = "../modules/edge/vpc_link"

  name              = local.name
  subnet_ids        = module.network.private_subnet_ids
  security_group_id = module.network.security_group_ids["edge"]
}

module "rest_api" {
  source = "../modules/edge/rest_api"
  count  = var.api_type == "rest" ? 1 : 0

  name                 = local.name
  user_pool_arn        = module.identity.user_pool_arn
  client_id            = module.identity.client_id
  vpc_link_id          = module.vpc_link.vpc_link_id
  alb_arn              = module.services.alb_arn
  alb_url              = var.certificate_arn == null ? "http://${module.services.alb_dns_name}" : "https://${var.certificate_name}"
  stage_name           = local.stage_name
  allowed_origins      = var.allowed_origins
  access_log_group_arn = var.api_access_logs ? local.log_group_arns["api"] : null
  requests_per_second  = var.throttle.requests_per_second
  burst                = var.throttle.burst
}

module "http_api" {
  source = "../modules/edge/http_api"
  count  = var.api_type == "http" ? 1 : 0

  name                 = local.name
  issuer               = module.identity.issuer
  audience             = module.identity.client_id
  access_log_group_arn = var.api_access_logs ? local.log_group_arns["api"] : null
  throttle             = var.throttle
  allowed_origins      = var.allowed_origins

  integration = {
    connection_type = "VPC_LINK"
    connection_id   = module.vpc_link.vpc_link_id
    uri             = module.services.listener_arn
    tls_server_name = var.certificate_name
  }
}
