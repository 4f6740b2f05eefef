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

override_data {
  target = data.aws_vpc_endpoint_service.interface
  values = {
    availability_zones            = ["us-east-1a", "us-east-1b", "us-east-1c"]
    vpc_endpoint_policy_supported = true
  }
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
    table_name         = "TenantConfigurations"
    table_arn          = "arn:aws:dynamodb:us-east-1:111122223333:table/TenantConfigurations"
    journal_table_name = "TenantConfigurationsJournal"
    journal_table_arn  = "arn:aws:dynamodb:us-east-1:111122223333:table/TenantConfigurationsJournal"
    history_table_name = "TenantConfigurationsHistory"
    history_table_arn  = "arn:aws:dynamodb:us-east-1:111122223333:table/TenantConfigurationsHistory"
    table_stream_arn   = "arn:aws:dynamodb:us-east-1:111122223333:table/TenantConfigurations/stream/2026-01-01T00:00:00.000"
    parameter_root     = "/tagged-config-dev/config"
    kms_key_arn        = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
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
    condition     = length(module.load_test) == 0 && output.load_test_command == null
    error_message = "An optional resource exists that no variable enables."
  }

  assert {
    condition     = length(module.network.private_subnet_ids) == 2
    error_message = "There are not two zones."
  }

  assert {
    condition = {
      for s in jsondecode(module.endpoints.policies["dynamodb"]).Statement : s.Sid => sort(flatten([s.Action]))
      } == {
      Table         = tolist(["dynamodb:GetItem", "dynamodb:PartiQLDelete", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate", "dynamodb:Query"])
      Journal       = tolist(["dynamodb:PartiQLInsert", "dynamodb:PutItem", "dynamodb:Query"])
      History       = tolist(["dynamodb:PartiQLInsert", "dynamodb:Query"])
      HistoryByTime = tolist(["dynamodb:Query"])
    }
    error_message = "DynamoDB's endpoint allows actions that no program calls."
  }

  assert {
    condition = {
      for s in jsondecode(module.endpoints.policies["dynamodb"]).Statement : s.Sid => s.Resource
      } == {
      Table         = module.storage.table_arn
      Journal       = module.storage.journal_table_arn
      History       = module.storage.history_table_arn
      HistoryByTime = "${module.storage.history_table_arn}/index/ByTime"
    }
    error_message = "DynamoDB's endpoint leads to another table than the three."
  }

  assert {
    condition     = local.programs["config-service"].environment["TAGGED_CONFIG_JOURNAL_TABLE"] == module.storage.journal_table_name
    error_message = "config-service does not know the journal: lost changes would be found by the TTL only."
  }

  assert {
    condition = {
      for s in jsondecode(module.endpoints.policies["ssm"]).Statement : s.Sid => sort(flatten([s.Action]))
      } == {
      ReadParameters        = tolist(["ssm:GetParameters"])
      ParameterHistory      = tolist(["ssm:GetParameterHistory"])
      ReadRefreshCredential = tolist(["ssm:GetParameter"])
    }
    error_message = "Parameter Store's endpoint allows actions that no program calls."
  }
}

run "optional_tags" {
  command = plan

  assert {
    condition     = output.blob_bucket == "tagged-config-dev-blobs-111122223333-us-east-1" && output.secret_root == "tagged-config-dev/config" && output.secret_kms_key_arn == module.storage.kms_key_arn
    error_message = "The optional stores are not there by default, or have other names."
  }

  assert {
    condition = (
      local.programs["config-service"].environment["TAGGED_CONFIG_BLOB_BUCKET"] == output.blob_bucket
      && local.programs["config-service"].environment["TAGGED_CONFIG_SECRET_ROOT"] == local.secrets_arn
    )
    error_message = "config-service does not know the optional stores."
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(module.endpoints.policies["s3"]).Statement : s.Sid => sort(flatten([s.Action])) if strcontains(s.Sid, "Blobs")
      }) == jsonencode({
      TenantsBlobs    = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
      ReadSharedBlobs = ["s3:GetObject", "s3:GetObjectVersion"]
      ListBlobs       = ["s3:ListBucket", "s3:ListBucketVersions"]
    })
    error_message = "S3's endpoint allows actions that no program calls, or not all that one calls."
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(module.endpoints.policies["s3"]).Statement : s.Sid => s.Resource if strcontains(s.Sid, "Blobs")
      }) == jsonencode({
      TenantsBlobs    = "arn:aws:s3:::${output.blob_bucket}/tenants/*"
      ReadSharedBlobs = "arn:aws:s3:::${output.blob_bucket}/global/*"
      ListBlobs       = "arn:aws:s3:::${output.blob_bucket}"
    })
    error_message = "S3's endpoint leads to other objects."
  }

  assert {
    condition = one(jsondecode(module.endpoints.policies["secretsmanager"]).Statement) == {
      Sid       = "ReadSecrets"
      Effect    = "Allow"
      Principal = { AWS = "*" }
      Action    = ["secretsmanager:ListSecretVersionIds", "secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
      Resource = [
        "arn:aws:secretsmanager:us-east-1:111122223333:secret:tagged-config-dev/config/tenants/*",
        "arn:aws:secretsmanager:us-east-1:111122223333:secret:tagged-config-dev/config/global/*",
      ]
      Condition = { StringEquals = { "aws:PrincipalAccount" = "111122223333" } }
    }
    error_message = "Secrets Manager's endpoint allows more than reads of the secrets: ${module.endpoints.policies["secretsmanager"]}"
  }

  assert {
    condition     = setunion(keys(data.aws_vpc_endpoint_service.interface), ["dynamodb", "s3"]) == toset(keys(module.endpoints.policies))
    error_message = "An endpoint is made without a check of its service."
  }
}

run "without_the_optional_tags" {
  command = plan

  variables {
    blobs   = false
    secrets = false
  }

  assert {
    condition     = length(module.blobs) == 0 && output.blob_bucket == null && output.secret_root == null && output.secret_kms_key_arn == null
    error_message = "Something of an optional store is left."
  }

  assert {
    condition     = length(local.store_settings) == 0 && keys(module.refresh.rule_names) == ["parameter-change"]
    error_message = "A program or a rule knows a store that there is not."
  }

  assert {
    condition     = !contains(keys(module.endpoints.policies), "secretsmanager") && !strcontains(module.endpoints.policies["s3"], "Blobs") && !contains(keys(data.aws_vpc_endpoint_service.interface), "secretsmanager")
    error_message = "An endpoint leads to a store that there is not."
  }
}

run "without_an_operators_tenant" {
  command = plan

  assert {
    condition     = length(local.operator_settings) == 0 && !strcontains(module.endpoints.policies["dynamodb"], "Scan")
    error_message = "By default a tenant has the operators' rights, or a table can be scanned."
  }
}

run "operators_tenant" {
  command = plan

  variables {
    operator_tenant = "operators"
  }

  assert {
    condition     = local.programs["config-service"].environment["TAGGED_CONFIG_OPERATOR_TENANT"] == "operators"
    error_message = "config-service does not know the operators' tenant."
  }

  assert {
    condition     = !can(local.programs["order-service"].environment["TAGGED_CONFIG_OPERATOR_TENANT"])
    error_message = "order-service is given a setting that it does not have."
  }

  assert {
    condition = [
      for s in jsondecode(module.endpoints.policies["dynamodb"]).Statement : s.Resource if contains(flatten([s.Action]), "dynamodb:Scan")
    ] == [module.storage.table_arn]
    error_message = "DynamoDB's endpoint does not let the configuration table be scanned, or another table."
  }
}

run "history" {
  command = plan

  variables {
    history_retention_days = 30
    history_required       = false
  }

  assert {
    condition = {
      for name in ["TABLE", "RETENTION_DAYS", "REQUIRED"] : name => local.programs["config-service"].environment["TAGGED_CONFIG_HISTORY_${name}"]
    } == { TABLE = module.storage.history_table_name, RETENTION_DAYS = "30", REQUIRED = "false" }
    error_message = "config-service does not know the history, or how long to keep it."
  }

  # By the names that the invalidator has.
  assert {
    condition = {
      for name in ["CLOUD_MAP_NAMESPACE", "CLOUD_MAP_SERVICE", "REFRESH_PORT"] : name => local.programs["config-service"].environment["TAGGED_CONFIG_${name}"]
    } == { CLOUD_MAP_NAMESPACE = "tagged-config-dev.internal", CLOUD_MAP_SERVICE = "config-service", REFRESH_PORT = "50052" }
    error_message = "A task does not find the others."
  }
}

run "a_write_without_its_entry_fails_unless_said_otherwise" {
  command = plan

  assert {
    condition = (
      local.programs["config-service"].environment["TAGGED_CONFIG_HISTORY_REQUIRED"] == "true"
      && local.programs["config-service"].environment["TAGGED_CONFIG_HISTORY_RETENTION_DAYS"] == "90"
    )
    error_message = "By default a change can be made that the history has not, or does not keep for 90 days."
  }
}

run "all_tasks_together_stay_within_parameter_stores_quota" {
  command = plan

  assert {
    condition     = local.programs["config-service"].environment["TAGGED_CONFIG_PARAMETER_CALLS_PER_SECOND"] == "7"
    error_message = "Four tasks do not share 30 calls a second."
  }
}

run "many_tasks_may_each_read_a_little" {
  command = plan

  variables {
    tasks = {
      config-service = { cpu = 256, memory_mib = 512, min = 2, max = 40 }
      order-service  = { cpu = 256, memory_mib = 512, min = 1, max = 2 }
    }
  }

  assert {
    condition     = local.parameter_calls_per_second == 1
    error_message = "A task could not read at all."
  }
}

run "higher_throughput_is_shared_too" {
  command = plan

  variables {
    parameter_store_high_throughput = true
  }

  assert {
    condition     = local.parameter_calls_per_second == 187
    error_message = "The account's higher throughput is not used."
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
    condition = length(setsubtract(["dynamodb:BatchWriteItem", "dynamodb:UpdateItem"], one([
      for s in jsondecode(module.endpoints.policies["dynamodb"]).Statement : s.Action if s.Sid == "Table"
    ]))) == 0
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

  assert {
    condition     = setunion(keys(data.aws_vpc_endpoint_service.interface), ["dynamodb", "s3"]) == toset(keys(module.endpoints.policies))
    error_message = "An endpoint is made without a check of its service."
  }
}

run "a_zone_without_an_endpoint_is_refused" {
  command = plan

  override_data {
    target = data.aws_vpc_endpoint_service.interface
    values = {
      availability_zones            = ["us-east-1a", "us-east-1c"]
      vpc_endpoint_policy_supported = true
    }
  }

  expect_failures = [data.aws_vpc_endpoint_service.interface]
}

run "an_endpoint_without_a_policy_is_refused" {
  command = plan

  override_data {
    target = data.aws_vpc_endpoint_service.interface
    values = {
      availability_zones            = ["us-east-1a", "us-east-1b", "us-east-1c"]
      vpc_endpoint_policy_supported = false
    }
  }

  expect_failures = [data.aws_vpc_endpoint_service.interface]
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
