# Plans only, with keys that mean nothing: no call leaves the machine. What only AWS could answer is answered here.
provider "aws" {
  region                      = "us-east-1"
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

override_data {
  target = data.aws_availability_zones.available
  values = { names = ["us-east-1a", "us-east-1b", "us-east-1c"] }
}

# Its secret is drawn while planning.
override_module {
  target = module.refresh_credential
  outputs = {
    parameter_name = "/tagged-config-dev/internal/refresh-credential"
    parameter_arn  = "arn:aws:ssm:us-east-1:111122223333:parameter/tagged-config-dev/internal/refresh-credential"
  }
}

# Known ARNs, so that the endpoints' policies are.
override_module {
  target = module.storage
  outputs = {
    table_name       = "TenantConfigurations"
    table_arn        = "arn:aws:dynamodb:us-east-1:111122223333:table/TenantConfigurations"
    table_stream_arn = "arn:aws:dynamodb:us-east-1:111122223333:table/TenantConfigurations/stream/2026-01-01T00:00:00.000"
    parameter_root   = "/tagged-config-dev/config"
    kms_key_arn      = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
  }
}

variables {
  environment         = "dev"
  deletion_protection = false
  parameter_root      = "/tagged-config-dev/config"
  tasks = {
    config-service = { cpu = 256, memory_mib = 512, min = 2, max = 4 }
    order-service  = { cpu = 256, memory_mib = 512, min = 1, max = 2 }
  }
}

run "rest_api_behind_the_web_acl" {
  command = plan

  assert {
    condition     = keys(module.edge.protected_resources) == ["stage"] && length(module.rest_api) == 1 && length(module.http_api) == 0
    error_message = "The web ACL does not guard the stage of the one API."
  }

  assert {
    condition     = length(module.load_test) == 0 && output.load_test_command == null && length(module.account_settings) == 0
    error_message = "Something is there that was not asked for."
  }

  assert {
    condition     = length(module.network.private_subnet_ids) == 2
    error_message = "There are not two zones."
  }

  assert {
    condition = {
      for s in jsondecode(module.endpoints.policies["dynamodb"]).Statement : s.Sid => sort(flatten([s.Action]))
      } == {
      Table = tolist([
        "dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query",
        "dynamodb:UpdateItem",
      ])
    }
    error_message = "The table's endpoint lets through what no task calls."
  }

  assert {
    condition = {
      for s in jsondecode(module.endpoints.policies["ssm"]).Statement : s.Sid => sort(flatten([s.Action]))
      } == {
      ReadParameters        = tolist(["ssm:GetParameters"])
      ReadRefreshCredential = tolist(["ssm:GetParameter"])
    }
    error_message = "Parameter Store's endpoint lets through what nobody calls."
  }
}

run "http_api_with_the_web_acl_on_the_load_balancer" {
  command = plan

  variables {
    api_type = "http"
  }

  assert {
    condition     = keys(module.edge.protected_resources) == ["load_balancer"] && length(module.rest_api) == 0 && length(module.http_api) == 1
    error_message = "The web ACL does not guard the load balancer of the one API."
  }
}

run "load_test_runner" {
  command = plan

  variables {
    load_test_runner       = true
    admin_password_sign_in = true
  }

  assert {
    condition     = contains(flatten([for s in jsondecode(module.endpoints.policies["dynamodb"]).Statement : s.Action]), "dynamodb:BatchWriteItem")
    error_message = "The load test cannot write its items."
  }

  assert {
    condition = one([
      for s in jsondecode(module.endpoints.policies["ssm"]).Statement : flatten([s.Resource]) if s.Sid == "TestParameters"
    ]) == ["arn:aws:ssm:us-east-1:111122223333:parameter/tagged-config-dev/config/tenants/lt-*"]
    error_message = "The load test cannot write its parameters, or can write others."
  }

  assert {
    condition     = contains(keys(module.endpoints.policies), "cognito-idp")
    error_message = "The load test cannot make its users."
  }
}

run "too_few_zones_for_a_vpc_link_are_refused" {
  command = plan

  override_data {
    target = data.aws_availability_zones.available
    values = { names = ["ca-central-1a", "ca-central-1b"] }
  }

  variables {
    availability_zone_count = 3
  }

  expect_failures = [data.aws_availability_zones.available]
}

run "an_unknown_environment_is_refused" {
  command = plan

  variables {
    environment = "test"
  }

  expect_failures = [var.environment]
}

run "a_malformed_region_is_refused" {
  command = plan

  variables {
    region = "Virginia"
  }

  expect_failures = [var.region]
}

run "a_malformed_tag_is_refused" {
  command = plan

  variables {
    image_tag = "a/b"
  }

  expect_failures = [var.image_tag]
}

run "an_unknown_architecture_is_refused" {
  command = plan

  variables {
    architecture = "amd64"
  }

  expect_failures = [var.architecture]
}

run "an_unknown_api_is_refused" {
  command = plan

  variables {
    api_type = "soap"
  }

  expect_failures = [var.api_type]
}

run "one_zone_is_refused" {
  command = plan

  variables {
    availability_zone_count = 1
  }

  expect_failures = [var.availability_zone_count]
}

run "an_unknown_nat_is_refused" {
  command = plan

  variables {
    nat = "two"
  }

  expect_failures = [var.nat]
}

run "a_certificate_needs_its_name" {
  command = plan

  variables {
    certificate_arn = "arn:aws:acm:us-east-1:111122223333:certificate/1"
  }

  expect_failures = [var.certificate_arn]
}

run "a_wildcard_is_no_name" {
  command = plan

  variables {
    certificate_arn  = "arn:aws:acm:us-east-1:111122223333:certificate/1"
    certificate_name = "*.example.com"
  }

  expect_failures = [var.certificate_name]
}

run "a_root_of_awss_own_is_refused" {
  command = plan

  variables {
    parameter_root = "/aws/config"
  }

  expect_failures = [var.parameter_root]
}

run "a_time_without_a_unit_is_refused" {
  command = plan

  variables {
    cache_ttl = "60"
  }

  expect_failures = [var.cache_ttl]
}

run "tasks_of_one_service_are_refused" {
  command = plan

  variables {
    tasks = { config-service = { cpu = 256, memory_mib = 512, min = 2, max = 4 } }
  }

  expect_failures = [var.tasks]
}

run "pages_without_a_way_back_are_refused" {
  command = plan

  variables {
    domain_prefix = "tagged-config"
  }

  expect_failures = [var.callback_urls]
}

run "password_sign_in_is_refused_in_prod" {
  command = plan

  variables {
    environment            = "prod"
    admin_password_sign_in = true
  }

  expect_failures = [var.admin_password_sign_in]
}

run "a_setting_of_the_account_needs_leave" {
  command = plan

  variables {
    parameter_store_high_throughput = true
  }

  expect_failures = [var.parameter_store_high_throughput]
}

run "a_load_test_is_refused_in_prod" {
  command = plan

  variables {
    environment      = "prod"
    load_test_runner = true
  }

  expect_failures = [var.load_test_runner]
}

run "a_load_test_needs_passwords" {
  command = plan

  variables {
    load_test_runner = true
  }

  expect_failures = [var.load_test_runner]
}

run "a_load_test_needs_a_pool_without_pages" {
  command = plan

  variables {
    load_test_runner       = true
    admin_password_sign_in = true
    domain_prefix          = "tagged-config"
    callback_urls          = ["https://app.example.com/"]
  }

  expect_failures = [var.load_test_runner]
}

run "a_load_test_has_no_second_factor" {
  command = plan

  variables {
    load_test_runner       = true
    admin_password_sign_in = true
    mfa                    = "ON"
  }

  expect_failures = [var.load_test_runner]
}
