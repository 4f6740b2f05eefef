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

run "no_hosted_pages_by_default" {
  command = plan

  assert {
    condition     = length(aws_cognito_user_pool_domain.this) == 0
    error_message = "There are hosted pages that no variable enables."
  }
}

run "hosted_pages_hand_out_codes_for_tokens_with_the_tenant" {
  command = plan

  variables {
    domain_prefix = "tagged-config"
    callback_urls = ["https://app.example.com/signed-in", "http://localhost:3000/"]
    logout_urls   = ["https://app.example.com/"]
  }

  assert {
    condition = (
      aws_cognito_user_pool_client.this.allowed_oauth_flows_user_pool_client
      && aws_cognito_user_pool_client.this.allowed_oauth_flows == toset(["code"])
      && aws_cognito_user_pool_client.this.supported_identity_providers == toset(["COGNITO"])
      && aws_cognito_user_pool_client.this.callback_urls == var.callback_urls
      && aws_cognito_user_pool_client.this.logout_urls == var.logout_urls
    )
    error_message = "No user could sign in on the pages, or tokens would be part of an address."
  }

  assert {
    condition     = aws_cognito_user_pool_client.this.allowed_oauth_scopes == toset(["openid"])
    error_message = "With another scope the ID token would lack the tenant."
  }

  assert {
    condition     = aws_cognito_user_pool_client.this.write_attributes == toset(["email"]) && aws_cognito_user_pool_domain.this[0].domain == "tagged-config"
    error_message = "With pages, a user may write more."
  }
}

run "an_administrators_sign_in_is_added_when_enabled" {
  command = plan

  variables {
    admin_password_sign_in = true
    deletion_protection    = true
    mfa                    = "OFF"
  }

  assert {
    condition     = contains(aws_cognito_user_pool_client.this.explicit_auth_flows, "ALLOW_ADMIN_USER_PASSWORD_AUTH")
    error_message = "The load test cannot sign its users in."
  }

  assert {
    condition     = aws_cognito_user_pool.this.deletion_protection == "ACTIVE" && length(aws_cognito_user_pool.this.software_token_mfa_configuration) == 0
    error_message = "The pool could be deleted, or wants authenticators."
  }
}

run "pages_without_a_way_back_are_refused" {
  command = plan

  variables {
    domain_prefix = "tagged-config"
  }

  expect_failures = [var.callback_urls]
}

run "a_way_back_without_pages_is_refused" {
  command = plan

  variables {
    callback_urls = ["https://app.example.com/"]
  }

  expect_failures = [var.callback_urls]
}

run "a_plaintext_way_back_is_refused" {
  command = plan

  variables {
    domain_prefix = "tagged-config"
    callback_urls = ["http://app.example.com/"]
  }

  expect_failures = [var.callback_urls]
}

run "a_way_out_without_pages_is_refused" {
  command = plan

  variables {
    logout_urls = ["https://app.example.com/"]
  }

  expect_failures = [var.logout_urls]
}

run "a_way_out_with_a_fragment_is_refused" {
  command = plan

  variables {
    domain_prefix = "tagged-config"
    callback_urls = ["https://app.example.com/"]
    logout_urls   = ["https://app.example.com/#a"]
  }

  expect_failures = [var.logout_urls]
}

run "no_provider_is_refused" {
  command = plan

  variables {
    supported_identity_providers = []
  }

  expect_failures = [var.supported_identity_providers]
}

run "a_prefix_that_ends_with_a_hyphen_is_refused" {
  command = plan

  variables {
    domain_prefix = "a-"
    callback_urls = ["https://app.example.com/"]
  }

  expect_failures = [var.domain_prefix]
}

run "a_token_for_a_minute_is_refused" {
  command = plan

  variables {
    token_validity_minutes = 1
  }

  expect_failures = [var.token_validity_minutes]
}

run "an_endless_session_is_refused" {
  command = plan

  variables {
    refresh_token_validity_days = 3651
  }

  expect_failures = [var.refresh_token_validity_days]
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "Tagged"
  }

  expect_failures = [var.name]
}
