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
  name       = "tagged-config"
  account_id = "111122223333"
  region     = "eu-west-1"
}

run "admits_logs_and_alarms_of_this_account" {
  command = plan

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The key does not rotate, or goes at once."
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.this.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), principal = s.Principal, condition = try(s.Condition, null) }
      }) == jsonencode({
      Account = { actions = ["kms:*"], principal = { AWS = "arn:aws:iam::111122223333:root" }, condition = null }
      Logs = {
        actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
        principal = { Service = "logs.eu-west-1.amazonaws.com" }
        condition = { ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:aws:logs:eu-west-1:111122223333:log-group:*" } }
      }
      Alarms = {
        actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
        principal = { Service = "cloudwatch.amazonaws.com" }
        condition = { StringEquals = { "aws:SourceAccount" = "111122223333" } }
      }
    })
    error_message = "The key's policy is not what it was agreed to be: ${data.aws_iam_policy_document.this.json}"
  }
}

run "a_short_wait_is_refused" {
  command = plan

  variables {
    deletion_window_days = 6
  }

  expect_failures = [var.deletion_window_days]
}

run "a_malformed_account_is_refused" {
  command = plan

  variables {
    account_id = "1"
  }

  expect_failures = [var.account_id]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
