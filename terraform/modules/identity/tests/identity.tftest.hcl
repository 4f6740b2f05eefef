# Plans only, with keys that mean nothing: no call leaves the machine.
provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  name   = "tagged-config"
  region = "eu-west-1"
}

run "no_user_can_write_tenant_or_role" {
  command = plan

  assert {
    condition     = aws_cognito_user_pool_client.this.write_attributes == toset(["email"])
    error_message = "The client may write something beside email."
  }

  assert {
    condition     = alltrue([for name in aws_cognito_user_pool_client.this.write_attributes : !startswith(name, "custom:")])
    error_message = "The client may write a custom attribute."
  }

  assert {
    condition     = one(aws_cognito_user_pool.this.admin_create_user_config).allow_admin_create_user_only
    error_message = "Users may sign up by themselves, and could then choose their tenant."
  }

  assert {
    condition     = one([for s in aws_cognito_user_pool.this.schema : s if s.name == "tenantId"]).mutable == false
    error_message = "custom:tenantId is mutable."
  }
}

run "the_id_token_carries_both_claims" {
  command = plan

  assert {
    condition     = length(setsubtract(["custom:tenantId", "custom:userRole"], aws_cognito_user_pool_client.this.read_attributes)) == 0
    error_message = "The client cannot read a claim that the services need."
  }
}

run "no_password_flow_and_no_secret_by_default" {
  command = plan

  assert {
    condition     = aws_cognito_user_pool_client.this.explicit_auth_flows == toset(["ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"])
    error_message = "By default only SRP and refresh are allowed."
  }

  assert {
    condition     = aws_cognito_user_pool_client.this.generate_secret == false
    error_message = "A public client cannot keep a secret."
  }
}

run "unknown_flow_is_refused" {
  command = plan

  variables {
    explicit_auth_flows = ["ALLOW_CUSTOM_AUTH"]
  }

  expect_failures = [var.explicit_auth_flows]
}

run "unknown_mfa_is_refused" {
  command = plan

  variables {
    mfa = "SMS"
  }

  expect_failures = [var.mfa]
}
