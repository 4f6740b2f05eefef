# The user pool: who a caller is, and of which tenant. The tenant is in `custom:tenantId`. Two settings together keep users from
# choosing it: there is no sign-up (an administrator creates users and sets it once, it is immutable), and the only client may
# write `email` and nothing else.

locals {
  hosted = var.domain_prefix != null
}

resource "aws_cognito_user_pool" "this" {
  name                     = var.name
  username_attributes      = ["email"]
  auto_verified_attributes = ["email"]
  mfa_configuration        = var.mfa
  deletion_protection      = var.deletion_protection ? "ACTIVE" : "INACTIVE"

  username_configuration {
    case_sensitive = false
  }

  admin_create_user_config {
    allow_admin_create_user_only = true
  }

  password_policy {
    minimum_length                   = 12
    require_lowercase                = true
    require_uppercase                = true
    require_numbers                  = true
    require_symbols                  = true
    password_history_size            = 5
    temporary_password_validity_days = 1
  }

  account_recovery_setting {
    recovery_mechanism {
      name     = "verified_email"
      priority = 1
    }
  }

  dynamic "software_token_mfa_configuration" {
    for_each = var.mfa == "OFF" ? [] : [var.mfa]

    content {
      enabled = true
    }
  }

  # The services' grammar of a tenant id is [A-Za-z0-9][A-Za-z0-9_-]{0,63}; Cognito can hold only its length.
  schema {
    name                     = "tenantId"
    attribute_data_type      = "String"
    developer_only_attribute = false
    mutable                  = false
    required                 = false

    string_attribute_constraints {
      min_length = 1
      max_length = 64
    }
  }

  # reader, writer or admin; a missing one means reader.
  schema {
    name                     = "userRole"
    attribute_data_type      = "String"
    developer_only_attribute = false
    mutable                  = true
    required                 = false

    string_attribute_constraints {
      min_length = 1
      max_length = 16
    }
  }
}

resource "aws_cognito_user_pool_client" "this" {
  name         = "${var.name}-api"
  user_pool_id = aws_cognito_user_pool.this.id

  generate_secret               = false
  explicit_auth_flows           = setunion(var.explicit_auth_flows, var.admin_password_sign_in ? ["ALLOW_ADMIN_USER_PASSWORD_AUTH"] : [])
  prevent_user_existence_errors = "ENABLED"
  enable_token_revocation       = true

  # Hosted pages, where there are any. A public client has no secret, so it proves itself by PKCE. `openid` and no other
  # scope: with `email` beside it the ID token would hold the e-mail address and no longer the tenant.
  allowed_oauth_flows_user_pool_client = local.hosted ? true : null
  allowed_oauth_flows                  = local.hosted ? ["code"] : null
  allowed_oauth_scopes                 = local.hosted ? ["openid"] : null
  callback_urls                        = local.hosted ? var.callback_urls : null
  logout_urls                          = local.hosted ? var.logout_urls : null
  supported_identity_providers         = local.hosted ? var.supported_identity_providers : null

  # Left out, write_attributes would allow every standard attribute and read_attributes would leave the custom
  # ones out of the ID token.
  read_attributes  = ["email", "email_verified", "custom:tenantId", "custom:userRole"]
  write_attributes = ["email"]

  id_token_validity      = var.token_validity_minutes
  access_token_validity  = var.token_validity_minutes
  refresh_token_validity = var.refresh_token_validity_days

  token_validity_units {
    id_token      = "minutes"
    access_token  = "minutes"
    refresh_token = "days"
  }
}

# The hosted sign-in pages. A pool with a domain cannot be reached through a VPC endpoint, as only a load test would.
resource "aws_cognito_user_pool_domain" "this" {
  count = local.hosted ? 1 : 0

  domain       = var.domain_prefix
  user_pool_id = aws_cognito_user_pool.this.id
}
