# The Cognito user pool that signs ID tokens, and the mirror of its signing keys.

module "identity" {
  source = "../modules/identity"

  name                   = local.name
  region                 = var.region
  mfa                    = var.mfa
  domain_prefix          = var.domain_prefix
  callback_urls          = var.callback_urls
  logout_urls            = var.logout_urls
  admin_password_sign_in = var.admin_password_sign_in
  deletion_protection    = var.deletion_protection
}

# Tasks have no way to the pool's address: they read a copy of its keys.
module "jwks_mirror" {
  source = "../modules/identity/jwks_mirror"

  name           = local.name
  account_id     = local.account_id
  region         = var.region
  issuer         = module.identity.issuer
  package        = local.package["jwks-mirror"]
  architecture   = local.lambda_architecture
  log_group_name = module.observability.log_group_names["jwks-mirror"]
  log_group_arn  = local.log_group_arns["jwks-mirror"]

  permissions_boundary_arn = var.permissions_boundary_arn
}
