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
  name                         = "tagged-config"
  function_name                = "tagged-config-invalidator"
  account_id                   = "111122223333"
  region                       = "eu-west-1"
  package                      = { filename = "tests/fixtures/placeholder.zip" }
  log_group_name               = "/aws/lambda/tagged-config-invalidator"
  log_group_arn                = "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/lambda/tagged-config-invalidator"
  subnet_ids                   = ["subnet-1", "subnet-2"]
  security_group_id            = "sg-1"
  refresh_port                 = 50052
  cloud_map_namespace          = "tagged-config"
  refresh_credential_parameter = "/tagged-config/internal/refresh-credential"
  parameter_root               = "/tagged-config/config"
  table_name                   = "TenantConfigurations"
  table_stream_arn             = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurations/stream/2026-01-01T00:00:00.000"
  kms_key_arn                  = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"
}

run "role_is_exactly_the_matrix" {
  command = plan

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.invalidator.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])) } if s.Effect == "Allow"
      }) == jsonencode({
      ReadStream = {
        actions   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
        resources = [var.table_stream_arn]
      }
      ListStreams = { actions = ["dynamodb:ListStreams"], resources = ["*"] }
      ReadParameters = {
        actions = ["ssm:GetParameter", "ssm:GetParameters"]
        resources = [
          "arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/config/*",
          "arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/internal/refresh-credential",
        ]
      }
      Decrypt   = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
      FindTasks = { actions = ["servicediscovery:DiscoverInstances"], resources = ["*"] }
      DeadLetters = {
        actions = ["sqs:SendMessage"]
        resources = [
          "arn:aws:sqs:eu-west-1:111122223333:tagged-config-function-dead-letter",
          "arn:aws:sqs:eu-west-1:111122223333:tagged-config-stream-dead-letter",
        ]
      }
      WriteLogs = {
        actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        resources = ["${var.log_group_arn}:*"]
      }
      NetworkInterfacesOfLambda = {
        actions = [
          "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
          "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
        ]
        resources = ["*"]
      }
    })
    error_message = "The invalidator's role is not what it was agreed to be: ${data.aws_iam_policy_document.invalidator.json}"
  }
}

# Of all statements that allow something on every resource, only the named exception holds a write.
run "no_star_beside_a_write_but_the_exception" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for s in jsondecode(data.aws_iam_policy_document.invalidator.json).Statement : [
        for action in flatten([s.Action]) :
        can(regex("^[a-z0-9-]+:(Get|List|Describe|Discover)[A-Za-z]*$", action))
      ] if s.Effect == "Allow" && contains(flatten([s.Resource]), "*") && s.Sid != "NetworkInterfacesOfLambda"
    ]))
    error_message = "A write action stands beside `*`."
  }

  assert {
    condition = alltrue([
      for s in jsondecode(data.aws_iam_policy_document.invalidator.json).Statement :
      !strcontains(jsonencode(s.Action), "*")
    ])
    error_message = "An action holds a wildcard."
  }

  assert {
    condition = one([
      for s in jsondecode(data.aws_iam_policy_document.invalidator.json).Statement : s if s.Effect == "Deny"
    ]).Condition.ArnEquals["lambda:SourceFunctionArn"] == "arn:aws:lambda:eu-west-1:111122223333:function:tagged-config-invalidator"
    error_message = "The function's code is not denied what the exception allows Lambda."
  }
}

run "only_the_rule_writes_to_its_dead_letters" {
  command = plan

  assert {
    condition = one(jsondecode(data.aws_iam_policy_document.rule_dead_letter.json).Statement).Condition == {
      ArnEquals    = { "aws:SourceArn" = "arn:aws:events:eu-west-1:111122223333:rule/tagged-config-parameter-change" }
      StringEquals = { "aws:SourceAccount" = "111122223333" }
    }
    error_message = "The queue's policy does not name the rule and the account."
  }
}

run "pattern_matches_configuration_only" {
  command = plan

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.parameter_change.event_pattern) == {
      source      = ["aws.ssm"]
      detail-type = ["Parameter Store Change"]
      detail = {
        name      = [{ prefix = "/tagged-config/config/" }]
        operation = ["Create", "Update", "Delete"]
      }
    }
    error_message = "The event pattern is not the contract's."
  }
}

run "stream_mapping_bounds_a_poison_record" {
  command = plan

  assert {
    condition = (
      aws_lambda_event_source_mapping.table.maximum_retry_attempts == 3
      && aws_lambda_event_source_mapping.table.maximum_record_age_in_seconds == 3600
      && aws_lambda_event_source_mapping.table.bisect_batch_on_function_error
      && aws_lambda_event_source_mapping.table.maximum_batching_window_in_seconds == 0
      && aws_lambda_event_source_mapping.table.function_response_types == toset(["ReportBatchItemFailures"])
    )
    error_message = "A record that always fails could block its shard, or a window delays every change."
  }
}

run "a_missing_zip_is_refused" {
  command = plan

  variables {
    package = { filename = "tests/fixtures/absent.zip" }
  }

  expect_failures = [var.package]
}

run "a_package_is_a_file_or_an_object" {
  command = plan

  variables {
    package = { filename = "tests/fixtures/placeholder.zip", s3_bucket = "b", s3_key = "k" }
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
