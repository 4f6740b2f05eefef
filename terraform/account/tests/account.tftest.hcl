# Plans only, with keys that mean nothing: no call leaves the machine.
provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "111122223333" }
}

variables {
  region = "eu-west-1"
}

run "the_role_is_api_gateways_and_goes_with_the_setting" {
  command = plan

  assert {
    condition = jsondecode(data.aws_iam_policy_document.assume.json).Statement == [{
      Sid       = "ApiGateway"
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "apigateway.amazonaws.com" }
    }]
    error_message = "A principal other than API Gateway can assume the role."
  }

  assert {
    condition     = aws_iam_role.api_gateway.name == "tagged-config-api-gateway-logs-eu-west-1"
    error_message = "A second region of the account would want the same role."
  }

  assert {
    condition     = aws_iam_role_policy_attachment.api_gateway.policy_arn == "arn:aws:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
    error_message = "The role's policy is not the one that AWS requires."
  }

  assert {
    condition     = aws_api_gateway_account.this.reset_on_delete
    error_message = "The account would be left with a role that is no more."
  }
}

run "higher_throughput_is_paid_for_only_when_enabled" {
  command = plan

  assert {
    condition     = length(aws_ssm_service_setting.parameter_store_throughput) == 0
    error_message = "The account pays for each call to Parameter Store."
  }
}

run "higher_throughput" {
  command = plan

  variables {
    parameter_store_high_throughput = true
  }

  assert {
    condition     = aws_ssm_service_setting.parameter_store_throughput[0].setting_value == "true"
    error_message = "The throughput is not raised."
  }

  # As the provider reads it back: with another form no plan would ever be clean.
  assert {
    condition     = aws_ssm_service_setting.parameter_store_throughput[0].setting_id == "arn:aws:ssm:eu-west-1:111122223333:servicesetting/ssm/parameter-store/high-throughput-enabled"
    error_message = "The setting is not named by its ARN."
  }
}

run "a_malformed_region_is_refused" {
  command = plan

  variables {
    region = "Frankfurt"
  }

  expect_failures = [var.region]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
