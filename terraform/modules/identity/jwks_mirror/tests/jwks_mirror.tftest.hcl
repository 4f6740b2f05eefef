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
  name           = "tagged-config"
  account_id     = "111122223333"
  region         = "eu-west-1"
  issuer         = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x"
  package        = { s3_bucket = "artifacts", s3_key = "abc/jwks-mirror.zip" }
  log_group_name = "/aws/lambda/tagged-config-jwks-mirror"
  log_group_arn  = "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/lambda/tagged-config-jwks-mirror"
}

run "role_is_exactly_the_matrix" {
  command = plan

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.this.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])) }
      }) == jsonencode({
      OneObject   = { actions = ["s3:GetObject", "s3:PutObject"], resources = ["arn:aws:s3:::tagged-config-jwks-111122223333-eu-west-1/jwks.json"] }
      DeadLetters = { actions = ["sqs:SendMessage"], resources = ["arn:aws:sqs:eu-west-1:111122223333:tagged-config-jwks-mirror-dead-letter"] }
      WriteLogs   = { actions = ["logs:CreateLogStream", "logs:PutLogEvents"], resources = ["${var.log_group_arn}:*"] }
    })
    error_message = "The mirror's role is not what it was agreed to be: ${data.aws_iam_policy_document.this.json}"
  }
}

run "the_object_is_closed_and_kept_for_a_while" {
  command = plan

  assert {
    condition = (
      aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy
      && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    )
    error_message = "The bucket can be made public."
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    error_message = "What the object held before is lost."
  }
}

run "keys_are_copied_at_once_and_every_minute" {
  command = plan

  assert {
    condition     = aws_cloudwatch_event_rule.schedule.schedule_expression == "rate(1 minute)" && aws_lambda_invocation.first.function_name == "tagged-config-jwks-mirror"
    error_message = "A task could start before there are keys, or keep old ones."
  }

  assert {
    condition = (
      aws_lambda_function.this.architectures == tolist(["arm64"]) && aws_lambda_function.this.s3_key == "abc/jwks-mirror.zip"
      && length(aws_lambda_function.this.vpc_config) == 0
    )
    error_message = "The function is not what lies in the bucket, or sits where the pool's keys cannot be reached."
  }

  assert {
    condition     = aws_lambda_permission.schedule.principal == "events.amazonaws.com" && one(aws_cloudwatch_event_target.this.retry_policy).maximum_retry_attempts == 2
    error_message = "Another service may invoke the function, or a failure is tried for a day."
  }
}

run "only_the_rule_writes_to_its_dead_letters" {
  command = plan

  assert {
    condition = one(jsondecode(data.aws_iam_policy_document.dead_letter.json).Statement).Condition == {
      ArnEquals    = { "aws:SourceArn" = "arn:aws:events:eu-west-1:111122223333:rule/tagged-config-jwks-mirror" }
      StringEquals = { "aws:SourceAccount" = "111122223333" }
    }
    error_message = "The queue's policy does not name the rule and the account."
  }
}

run "a_plaintext_issuer_is_refused" {
  command = plan

  variables {
    issuer = "http://issuer"
  }

  expect_failures = [var.issuer]
}

run "a_package_needs_a_key" {
  command = plan

  variables {
    package = { s3_bucket = "b" }
  }

  expect_failures = [var.package]
}

run "a_missing_zip_is_refused" {
  command = plan

  variables {
    package = { filename = "tests/absent.zip" }
  }

  expect_failures = [var.package]
}

run "unknown_architecture_is_refused" {
  command = plan

  variables {
    architecture = "amd64"
  }

  expect_failures = [var.architecture]
}

run "a_reservation_beyond_the_accounts_is_refused" {
  command = plan

  variables {
    reserved_concurrency = 1001
  }

  expect_failures = [var.reserved_concurrency]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}

run "a_malformed_account_is_refused" {
  command = plan

  variables {
    account_id = "1"
  }

  expect_failures = [var.account_id]
}
