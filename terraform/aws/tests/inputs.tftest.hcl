# What the root refuses. The modules are left out: each refuses what it must itself, and is tested for it.
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

override_data {
  target = data.aws_vpc_endpoint_service.interface
  values = {
    availability_zones            = ["us-east-1a", "us-east-1b", "us-east-1c"]
    vpc_endpoint_policy_supported = true
  }
}

override_module {
  target = module.alarms
}

override_module {
  target = module.alerts
}

override_module {
  target = module.blobs
  outputs = {
    bucket_name = "blobs"
    bucket_arn  = "arn:aws:s3:::blobs"
  }
}

override_module {
  target = module.discovery
  outputs = {
    service_arns = { config-service = "c", order-service = "o" }
  }
}

override_module {
  target = module.edge
}

override_module {
  target = module.endpoint_statements
  outputs = {
    interface_endpoints = {}
    gateway_endpoints   = {}
  }
}

override_module {
  target = module.endpoints
}

override_module {
  target = module.http_api
}

override_module {
  target = module.identity
}

override_module {
  target = module.images
  outputs = {
    repository_urls  = { config-service = "c", order-service = "o", loadtest = "l" }
    repository_arns  = { config-service = "c", order-service = "o" }
    artifacts_bucket = "artifacts"
  }
}

override_module {
  target = module.jwks_mirror
}

override_module {
  target = module.load_test
  outputs = {
    task_definition_arn = "t"
  }
}

override_module {
  target = module.network
  outputs = {
    vpc_id                  = "vpc-1"
    private_subnet_ids      = ["subnet-1", "subnet-2"]
    private_route_table_ids = ["rtb-1"]
    security_group_ids      = { edge = "sg-1", alb = "sg-2", config-service = "sg-3", order-service = "sg-4", invalidator = "sg-5", load-test = "sg-6" }
    api_caller_names        = ["config-service", "invalidator", "order-service"]
  }
}

override_module {
  target = module.observability
  outputs = {
    dashboard_name = "d"
    log_group_names = {
      config-service = "c", order-service = "o", invalidator = "i", jwks-mirror = "j", api = "a", flow-logs = "f", waf = "w", load-test = "l"
    }
  }
}

override_module {
  target = module.operations_key
}

override_module {
  target = module.queries
}

override_module {
  target = module.refresh
  outputs = {
    dead_letter_queue_names = {}
  }
}

override_module {
  target = module.refresh_credential
}

override_module {
  target = module.rest_api
}

override_module {
  target = module.services
  outputs = {
    cluster_name              = "c"
    alb_dns_name              = "a"
    target_group_arns         = { config = "c", order = "o" }
    target_group_arn_suffixes = { config = "c", order = "o" }
    task_role_arns            = { config-service = "c", order-service = "o" }
  }
}

override_module {
  target = module.storage
}

override_module {
  target = module.task
}

override_module {
  target = module.vpc_link
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

run "a_history_of_eleven_years_is_refused" {
  command = plan

  variables {
    history_retention_days = 4000
  }

  expect_failures = [var.history_retention_days]
}

run "an_operators_tenant_that_is_no_tenant_id_is_refused" {
  command = plan

  variables {
    operator_tenant = "-operators"
  }

  expect_failures = [var.operator_tenant]
}

run "an_operators_tenant_without_a_name_is_refused" {
  command = plan

  variables {
    operator_tenant = ""
  }

  expect_failures = [var.operator_tenant]
}

run "an_operators_tenant_of_65_characters_is_refused" {
  command = plan

  variables {
    operator_tenant = "a1234567890123456789012345678901234567890123456789012345678901234"
  }

  expect_failures = [var.operator_tenant]
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
    alert_emails           = ["a@example.com"]
    admin_password_sign_in = true
  }

  expect_failures = [var.admin_password_sign_in]
}

run "prod_without_anybody_to_wake_is_refused" {
  command = plan

  variables {
    environment = "prod"
  }

  expect_failures = [var.alert_emails]
}

run "a_topic_is_somebody_to_wake" {
  command = plan

  variables {
    environment      = "prod"
    alert_topic_arns = ["arn:aws:sns:us-east-1:111122223333:incidents"]
  }
}

run "a_topic_is_an_arn" {
  command = plan

  variables {
    alert_topic_arns = ["incidents"]
  }

  expect_failures = [var.alert_topic_arns]
}

run "a_boundary_is_a_policys_arn" {
  command = plan

  variables {
    permissions_boundary_arn = "boundary"
  }

  expect_failures = [var.permissions_boundary_arn]
}

run "a_load_test_is_refused_in_prod" {
  command = plan

  variables {
    environment      = "prod"
    alert_emails     = ["a@example.com"]
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
