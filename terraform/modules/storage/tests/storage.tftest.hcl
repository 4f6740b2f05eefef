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

run "what_holds_data_can_be_protected" {
  command = plan

  variables {
    deletion_protection      = true
    key_deletion_window_days = 30
  }

  assert {
    condition     = aws_dynamodb_table.this.deletion_protection_enabled && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The table could be deleted by accident, or the key goes at once."
  }

  assert {
    condition     = aws_dynamodb_table.history.deletion_protection_enabled
    error_message = "The history could be deleted by accident."
  }
}

run "defaults_are_plain_and_described" {
  command = plan

  assert {
    condition     = aws_ssm_parameter.global["tax/rate"].type == "String" && aws_ssm_parameter.global["tax/rate"].value == "0.20"
    error_message = "A shared default is not what was given."
  }
}

run "journal" {
  command = plan

  assert {
    condition     = aws_dynamodb_table.journal.name == "TenantConfigurationsJournal" && aws_dynamodb_table.journal.stream_enabled != true
    error_message = "The journal has another name, or a stream."
  }

  assert {
    condition     = one(aws_dynamodb_table.journal.ttl).enabled && one(aws_dynamodb_table.journal.ttl).attribute_name == "expiresAt"
    error_message = "Entries of the journal stay for ever."
  }

  assert {
    condition     = one(aws_dynamodb_table.journal.server_side_encryption).enabled
    error_message = "The journal is not encrypted with the module's key."
  }

  assert {
    condition     = aws_dynamodb_table.journal.billing_mode == "PAY_PER_REQUEST" && aws_dynamodb_table.journal.hash_key == "PK" && aws_dynamodb_table.journal.range_key == "SK"
    error_message = "The journal's keys or billing mode are not the contract's."
  }
}

run "history" {
  command = plan

  assert {
    condition     = aws_dynamodb_table.history.name == "TenantConfigurationsHistory" && aws_dynamodb_table.history.stream_enabled != true
    error_message = "The history has another name, or a stream."
  }

  assert {
    condition     = aws_dynamodb_table.history.billing_mode == "PAY_PER_REQUEST" && aws_dynamodb_table.history.hash_key == "PK" && aws_dynamodb_table.history.range_key == "SK"
    error_message = "The history's keys or billing mode are not the contract's."
  }

  assert {
    condition = (
      one(aws_dynamodb_table.history.global_secondary_index).name == "ByTime"
      && one(aws_dynamodb_table.history.global_secondary_index).hash_key == "PK"
      && one(aws_dynamodb_table.history.global_secondary_index).range_key == "at"
    )
    error_message = "A tenant's changes cannot be read in the order of their time."
  }

  # What a list of changes shows. A value can be 256 KiB long: it is not stored twice.
  assert {
    condition = one(aws_dynamodb_table.history.global_secondary_index).projection_type == "INCLUDE" && toset(one(aws_dynamodb_table.history.global_secondary_index).non_key_attributes) == toset([
      "key", "version", "previous", "operation", "by", "role", "requestId", "note", "size", "hash", "contentType", "source",
    ])
    error_message = "The index has the values, or not what a list shows."
  }

  assert {
    condition     = { for attribute in aws_dynamodb_table.history.attribute : attribute.name => attribute.type } == { PK = "S", SK = "S", at = "S" }
    error_message = "A key is no string."
  }

  assert {
    condition     = one(aws_dynamodb_table.history.ttl).enabled && one(aws_dynamodb_table.history.ttl).attribute_name == "expiresAt"
    error_message = "Entries of the history stay for ever."
  }

  assert {
    condition     = one(aws_dynamodb_table.history.point_in_time_recovery).enabled && one(aws_dynamodb_table.history.server_side_encryption).enabled
    error_message = "The history cannot be recovered, or is not encrypted with the module's key."
  }
}

run "a_short_history_name_is_refused" {
  command = plan

  variables {
    history_table_name = "H"
  }

  expect_failures = [var.history_table_name]
}

run "a_short_table_name_is_refused" {
  command = plan

  variables {
    table_name = "T"
  }

  expect_failures = [var.table_name]
}

run "a_short_journal_name_is_refused" {
  command = plan

  variables {
    journal_table_name = "J"
  }

  expect_failures = [var.journal_table_name]
}

run "a_short_wait_is_refused" {
  command = plan

  variables {
    key_deletion_window_days = 6
  }

  expect_failures = [var.key_deletion_window_days]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
