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
