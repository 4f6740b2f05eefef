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
  name            = "tagged-config"
  global_defaults = { "tax/rate" = "0.20" }
}

run "table" {
  command = plan

  assert {
    condition     = aws_dynamodb_table.this.stream_enabled && aws_dynamodb_table.this.stream_view_type == "NEW_AND_OLD_IMAGES"
    error_message = "The stream must carry both images."
  }

  assert {
    condition     = one(aws_dynamodb_table.this.point_in_time_recovery).enabled
    error_message = "Point-in-time recovery is off."
  }

  assert {
    condition     = one(aws_dynamodb_table.this.server_side_encryption).enabled
    error_message = "The table is not encrypted with the module's key."
  }

  assert {
    condition     = one(aws_dynamodb_table.this.ttl).enabled && one(aws_dynamodb_table.this.ttl).attribute_name == "expiresAt"
    error_message = "Items do not expire by expiresAt."
  }

  assert {
    condition     = aws_dynamodb_table.this.billing_mode == "PAY_PER_REQUEST" && aws_dynamodb_table.this.hash_key == "PK" && aws_dynamodb_table.this.range_key == "SK"
    error_message = "The table's keys or billing mode are not the contract's."
  }

  assert {
    condition     = aws_kms_key.this.enable_key_rotation
    error_message = "The key does not rotate."
  }
}

run "defaults_lie_under_the_global_path" {
  command = plan

  assert {
    condition     = aws_ssm_parameter.global["tax/rate"].name == "/tagged-config/config/global/tax/rate"
    error_message = "A shared default must be <root>/global/<name>."
  }
}

run "root_with_a_trailing_slash_is_refused" {
  command = plan

  variables {
    parameter_root = "/tagged-config/"
  }

  expect_failures = [var.parameter_root]
}

run "reserved_root_is_refused" {
  command = plan

  variables {
    parameter_root = "/aws/config"
  }

  expect_failures = [var.parameter_root]
}

run "malformed_default_is_refused" {
  command = plan

  variables {
    global_defaults = { "/tax" = "1" }
  }

  expect_failures = [var.global_defaults]
}
