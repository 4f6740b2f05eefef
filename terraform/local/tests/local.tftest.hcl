# Plans only: no emulator needs to run. The root's own provider reads the account.
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}

# What only the emulator could answer.
override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "000000000000" }
}

# Its secret is drawn while planning.
override_module {
  target = module.refresh_credential
  outputs = {
    parameter_name = "/tagged-config/internal/refresh-credential"
    parameter_arn  = "arn:aws:ssm:us-east-1:000000000000:parameter/tagged-config/internal/refresh-credential"
  }
}

variables {
  invalidator_zip = "../modules/refresh/tests/fixtures/placeholder.zip"
}

run "same_modules_without_what_an_emulator_lacks" {
  command = plan

  assert {
    condition     = keys(module.edge.protected_resources) == ["load_balancer"]
    error_message = "The web ACL does not guard the load balancer."
  }

  assert {
    condition     = output.journal_table_name == "${output.table_name}Journal"
    error_message = "The output with the journal's name is missing, or it is not beside its table."
  }

  assert {
    condition     = output.history_table_name == "${output.table_name}History"
    error_message = "The output with the history's name is missing, or it is not beside its table."
  }

  assert {
    condition = {
      for name in ["HISTORY_TABLE", "HISTORY_RETENTION_DAYS", "HISTORY_REQUIRED", "CLOUD_MAP_NAMESPACE", "CLOUD_MAP_SERVICE", "REFRESH_PORT"] :
      name => local.programs["config-service"].environment["TAGGED_CONFIG_${name}"]
      } == {
      HISTORY_TABLE          = output.history_table_name
      HISTORY_RETENTION_DAYS = "90"
      HISTORY_REQUIRED       = "true"
      CLOUD_MAP_NAMESPACE    = output.cloud_map_namespace
      CLOUD_MAP_SERVICE      = "config-service"
      REFRESH_PORT           = "50052"
    }
    error_message = "config-service does not know the history or the other tasks."
  }
}

run "optional_tags" {
  command = plan

  assert {
    condition     = output.blob_bucket == "tagged-config-blobs-000000000000-us-east-1" && output.secret_root == "tagged-config/config"
    error_message = "The optional stores are not there by default, or not named as the launcher finds them."
  }

  assert {
    condition     = local.store_settings == tomap({ TAGGED_CONFIG_BLOB_BUCKET = output.blob_bucket, TAGGED_CONFIG_SECRET_ROOT = output.secrets_arn })
    error_message = "config-service does not know the optional stores."
  }

  assert {
    condition     = contains(keys(module.endpoint_statements.interface_endpoints), "secretsmanager")
    error_message = "No task reaches Secrets Manager."
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
    condition     = !contains(keys(module.endpoint_statements.interface_endpoints), "secretsmanager") && [for s in module.endpoint_statements.gateway_endpoints.s3 : s.sid] == ["ImageLayers"]
    error_message = "An endpoint leads to a store that there is not."
  }
}

run "operators_tenant" {
  command = plan

  assert {
    condition     = local.programs["config-service"].environment["TAGGED_CONFIG_OPERATOR_TENANT"] == "operators" && output.operator_tenant == "operators"
    error_message = "config-service, or the launcher, does not know the operators' tenant."
  }

  assert {
    condition     = [for s in module.endpoint_statements.gateway_endpoints.dynamodb : s.sid if contains(s.actions, "dynamodb:Scan")] == ["Table"]
    error_message = "DynamoDB's endpoint does not let the configuration table be scanned, or another table."
  }
}

run "without_an_operators_tenant" {
  command = plan

  variables {
    operator_tenant = null
  }

  assert {
    condition     = length(local.operator_settings) == 0 && output.operator_tenant == null
    error_message = "A program knows an operators' tenant that there is not."
  }

  assert {
    condition     = !contains(flatten([for s in module.endpoint_statements.gateway_endpoints.dynamodb : s.actions]), "dynamodb:Scan")
    error_message = "A table can be scanned without need."
  }
}

run "an_operators_tenant_that_is_no_tenant_id_is_refused" {
  command = plan

  variables {
    operator_tenant = "operators#1"
  }

  expect_failures = [var.operator_tenant]
}

run "a_history_of_no_day_is_refused" {
  command = plan

  variables {
    history_retention_days = 0
  }

  expect_failures = [var.history_retention_days]
}

run "processes_unless_there_are_images" {
  command = plan

  assert {
    condition     = length(module.task) == 0
    error_message = "There are ECS services without images."
  }
}

run "tasks_from_images" {
  command = plan

  variables {
    images = {
      config-service = "localhost/tagged-config/config-service:0123456789ab"
      order-service  = "localhost/tagged-config/order-service:0123456789ab"
    }
  }

  assert {
    condition     = toset(keys(module.task)) == toset(["config-service", "order-service"])
    error_message = "The services are no ECS services."
  }
}

run "an_image_of_another_program_is_refused" {
  command = plan

  variables {
    images = { invalidator = "localhost/tagged-config/invalidator:0123456789ab" }
  }

  expect_failures = [var.images]
}

run "an_address_with_a_trailing_slash_is_refused" {
  command = plan

  variables {
    emulator_url = "http://127.0.0.1:4566/"
  }

  expect_failures = [var.emulator_url]
}

run "another_emulator_for_the_stores" {
  command = plan

  variables {
    emulator_url = "http://127.0.0.1:4566"
    stores_url   = "http://127.0.0.1:4567"
  }

  assert {
    condition     = local.stores_url == "http://127.0.0.1:4567"
    error_message = "The stores' endpoint is not the one of `stores_url`."
  }
}

run "a_stores_address_with_a_trailing_slash_is_refused" {
  command = plan

  variables {
    stores_url = "http://127.0.0.1:4567/"
  }

  expect_failures = [var.stores_url]
}
