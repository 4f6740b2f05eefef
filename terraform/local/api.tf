# The emulator has no VPC links: here the HTTP API reaches the load balancer through the emulator's own address of
# it, to which the request's path is appended. The emulated ACL sits on the load balancer, since WAF takes no HTTP
# API; it is stored, not enforced.

locals {
  alb_url = "${var.emulator_url}/_alb/${module.services.alb_name}"
}

module "http_api" {
  source = "../modules/edge/http_api"

  name     = var.name
  issuer   = module.identity.issuer
  audience = module.identity.client_id

  allowed_origins = var.allowed_origins

  integration = {
    connection_type = "INTERNET"
    uri             = local.alb_url
  }
}

module "edge" {
  source = "../modules/edge"

  name                = var.name
  forwarded_ip_header = module.http_api.client_ip_header

  protected_resources = {
    load_balancer = module.services.alb_arn
  }
}
