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
  name        = "tagged-config"
  account_id  = "111122223333"
  kms_key_arn = "arn:aws:kms:eu-west-1:111122223333:key/1"
  emails      = ["on-call@example.com"]
}

run "topic_is_encrypted_and_has_subscribers" {
  command = plan

  assert {
    condition     = aws_sns_topic.this.kms_master_key_id == var.kms_key_arn
    error_message = "The topic is not encrypted with the key."
  }

  assert {
    condition     = aws_sns_topic_subscription.email["on-call@example.com"].protocol == "email"
    error_message = "Alarms have no receiver."
  }
}

run "only_this_accounts_alarms_publish" {
  command = plan

  assert {
    condition = jsondecode(data.aws_iam_policy_document.this.json).Statement == [{
      Sid       = "AlarmsOfThisAccount"
      Effect    = "Allow"
      Action    = "sns:Publish"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Resource  = "arn:aws:sns:eu-west-1:111122223333:tagged-config-alerts"
      Condition = { StringEquals = { "aws:SourceAccount" = "111122223333" } }
    }]
    error_message = "Another principal may publish: ${data.aws_iam_policy_document.this.json}"
  }
}

run "a_malformed_address_is_refused" {
  command = plan

  variables {
    emails = ["on-call"]
  }

  expect_failures = [var.emails]
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
