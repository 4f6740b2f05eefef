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
  journal_table_name           = "TenantConfigurationsJournal"
  journal_table_arn            = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurationsJournal"
  history_table_name           = "TenantConfigurationsHistory"
  history_table_arn            = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurationsHistory"
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
      AppendToJournal = { actions = ["dynamodb:PutItem"], resources = [var.journal_table_arn] }
      AppendToHistory = { actions = ["dynamodb:PartiQLInsert", "dynamodb:Query"], resources = [var.history_table_arn] }
      ListStreams     = { actions = ["dynamodb:ListStreams"], resources = ["*"] }
      ReadParameters = {
        actions   = ["ssm:GetParameters"]
        resources = ["arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/config/*"]
      }
      ReadRefreshCredential = {
        actions = ["ssm:GetParameter"]
        resources = [
          "arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/internal/refresh-credential",
          "arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/internal/refresh-credential:*",
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

# INSERT fails on an entry that is there. Each other write, a Put too, could replace one.
run "it_changes_or_deletes_no_entry_of_the_history" {
  command = plan

  assert {
    condition = toset(flatten([
      for s in concat(
        jsondecode(data.aws_iam_policy_document.invalidator.json).Statement,
        jsondecode(data.aws_iam_policy_document.blobs.json).Statement,
        ) : [for action in flatten([s.Action]) : action if can(regex("^(dynamodb:|\\*)", action))] if s.Effect == "Allow" && anytrue([
          for resource in flatten([s.Resource]) : resource == "*" || startswith(resource, var.history_table_arn) || can(regex("table/.*\\*", resource))
      ])
    ])) == toset(["dynamodb:ListStreams", "dynamodb:PartiQLInsert", "dynamodb:Query"])
    error_message = "An entry of the history could be changed, or none could be written."
  }
}

run "it_knows_the_history_and_how_long_entries_stay" {
  command = plan

  variables {
    history_retention_days = 30
  }

  assert {
    condition = (
      one(aws_lambda_function.invalidator.environment).variables["TAGGED_CONFIG_HISTORY_TABLE"] == var.history_table_name
      && one(aws_lambda_function.invalidator.environment).variables["TAGGED_CONFIG_HISTORY_RETENTION_DAYS"] == "30"
    )
    error_message = "Changes past the service would not be in the history, or stay for another time."
  }
}

run "a_history_of_no_day_is_refused" {
  command = plan

  variables {
    history_retention_days = 0
  }

  expect_failures = [var.history_retention_days]
}

run "a_history_of_half_a_day_is_refused" {
  command = plan

  variables {
    history_retention_days = 1.5
  }

  expect_failures = [var.history_retention_days]
}

run "the_key_is_used_through_the_two_services_only" {
  command = plan

  assert {
    condition = one([
      for s in jsondecode(data.aws_iam_policy_document.invalidator.json).Statement : s if s.Sid == "Decrypt"
      ]).Condition == {
      StringEquals = { "kms:ViaService" = ["dynamodb.eu-west-1.amazonaws.com", "ssm.eu-west-1.amazonaws.com"] }
    }
    error_message = "The key is not usable for journal and parameters, or in another way."
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
    condition = jsondecode(aws_cloudwatch_event_rule.this["parameter-change"].event_pattern) == {
      source = ["aws.ssm"]
      "$or" = [
        {
          detail-type = ["Parameter Store Change"]
          detail = {
            name      = [{ prefix = "/tagged-config/config/" }]
            operation = ["Create", "Update", "Delete"]
          }
        },
        {
          detail-type = ["Parameter Store Policy Action"]
          detail = {
            parameter-name = [{ prefix = "/tagged-config/config/" }]
            policy-type    = ["Expiration"]
          }
        },
      ]
    }
    error_message = "The event pattern is not the contract's."
  }
}

run "without_the_optional_tags_nothing_is_left_of_them" {
  command = plan

  assert {
    condition     = output.rule_names == { parameter-change = "tagged-config-parameter-change" }
    error_message = "A rule waits for events of a store that there is not."
  }

  assert {
    condition     = length(aws_iam_role_policy.blobs) == 0
    error_message = "The invalidator may read a bucket that there is not."
  }

  assert {
    condition = length(setintersection(
      ["TAGGED_CONFIG_BLOB_BUCKET", "TAGGED_CONFIG_SECRET_ROOT"], keys(one(aws_lambda_function.invalidator.environment).variables),
    )) == 0
    error_message = "The function knows a store that there is not."
  }
}

run "optional_tags" {
  command = plan

  variables {
    blob_bucket = "tagged-config-blobs-111122223333-eu-west-1"
    secret_root = "tagged-config/config"
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.this["blob-change"].event_pattern) == {
      source      = ["aws.s3"]
      detail-type = ["Object Created", "Object Deleted"]
      detail = {
        bucket = { name = ["tagged-config-blobs-111122223333-eu-west-1"] }
        object = { key = [{ prefix = "tenants/" }, { prefix = "global/" }] }
      }
    }
    error_message = "The rule matches objects of another bucket, or not all changes."
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.this["secret-change"].event_pattern) == {
      source      = ["aws.secretsmanager"]
      detail-type = ["Secret Label Updated"]
      detail      = { name = [{ prefix = "tagged-config/config/" }], labelUpdated = ["AWSCURRENT"] }
    }
    error_message = "The rule matches other secrets, or labels that config-service does not read."
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.this["secret-lifecycle"].event_pattern).detail == {
      eventSource = ["secretsmanager.amazonaws.com"]
      eventName   = ["CreateSecret", "DeleteSecret", "RestoreSecret"]
      "$or" = [
        for name in ["name", "secretId"] : {
          requestParameters = {
            (name) = [
              { prefix = "tagged-config/config/" },
              { prefix = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:tagged-config/config/" },
            ]
          }
        }
      ]
    }
    error_message = "A deletion is not found by the name or the ARN that its caller gave."
  }

  assert {
    condition     = strcontains(aws_cloudwatch_event_rule.this["secret-lifecycle"].description, "CloudTrail")
    error_message = "The rule does not say what it needs."
  }

  assert {
    condition = (
      one(aws_lambda_function.invalidator.environment).variables["TAGGED_CONFIG_BLOB_BUCKET"] == var.blob_bucket
      && one(aws_lambda_function.invalidator.environment).variables["TAGGED_CONFIG_SECRET_ROOT"] == var.secret_root
    )
    error_message = "The function does not know the stores."
  }
}

run "every_rule_fails_alike" {
  command = plan

  variables {
    blob_bucket = "tagged-config-blobs-111122223333-eu-west-1"
    secret_root = "tagged-config/config"
  }

  assert {
    condition     = toset(keys(output.rule_names)) == toset(["blob-change", "parameter-change", "secret-change", "secret-lifecycle"])
    error_message = "A rule is missing, or there is another."
  }

  assert {
    condition = alltrue([
      for target in aws_cloudwatch_event_target.this :
      one(target.retry_policy).maximum_retry_attempts == 10 && one(target.retry_policy).maximum_event_age_in_seconds == 3600 && length(target.dead_letter_config) == 1
    ]) && toset(keys(aws_cloudwatch_event_target.this)) == toset(keys(output.rule_names))
    error_message = "A rule has no target, or one that loses events in another way."
  }

  assert {
    condition = alltrue([
      for permission in aws_lambda_permission.events : permission.principal == "events.amazonaws.com" && permission.action == "lambda:InvokeFunction"
    ]) && toset(keys(aws_lambda_permission.events)) == toset(keys(output.rule_names))
    error_message = "A rule may not invoke the function, or another service may."
  }

  assert {
    condition = toset(one(jsondecode(data.aws_iam_policy_document.rule_dead_letter.json).Statement).Condition.ArnEquals["aws:SourceArn"]) == toset([
      for rule in values(output.rule_names) : "arn:aws:events:eu-west-1:111122223333:rule/${rule}"
    ])
    error_message = "A rule cannot put away what it could not deliver."
  }
}

run "the_invalidator_reads_blobs_and_no_secret" {
  command = plan

  variables {
    blob_bucket = "tagged-config-blobs-111122223333-eu-west-1"
    secret_root = "tagged-config/config"
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.blobs.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])), condition = try(s.Condition, null) }
      }) == jsonencode({
      ReadBlobs = {
        actions = ["s3:GetObject"]
        resources = [
          "arn:aws:s3:::tagged-config-blobs-111122223333-eu-west-1/global/*",
          "arn:aws:s3:::tagged-config-blobs-111122223333-eu-west-1/tenants/*",
        ]
        condition = null
      }
      ListBlobs = {
        actions   = ["s3:ListBucket"]
        resources = ["arn:aws:s3:::tagged-config-blobs-111122223333-eu-west-1"]
        condition = { StringLikeIfExists = { "s3:prefix" = ["tenants/*", "global/*"] } }
      }
      DecryptBlobs = {
        actions   = ["kms:Decrypt"]
        resources = [var.kms_key_arn]
        condition = { StringEquals = { "kms:ViaService" = "s3.eu-west-1.amazonaws.com" } }
      }
    })
    error_message = "The invalidator's role for blobs is not what it was agreed to be: ${data.aws_iam_policy_document.blobs.json}"
  }

  assert {
    condition     = !strcontains(data.aws_iam_policy_document.invalidator.json, "secretsmanager") && !strcontains(data.aws_iam_policy_document.blobs.json, "secretsmanager")
    error_message = "The invalidator may read secrets, which it has no need to."
  }
}

run "a_bucket_with_a_wildcard_is_refused" {
  command = plan

  variables {
    blob_bucket = "tagged-config-*"
  }

  expect_failures = [var.blob_bucket]
}

run "a_root_of_secrets_with_a_leading_slash_is_refused" {
  command = plan

  variables {
    secret_root = "/tagged-config/config"
  }

  expect_failures = [var.secret_root]
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

run "a_package_from_a_bucket" {
  command = plan

  variables {
    package = { s3_bucket = "artifacts", s3_key = "abc/invalidator.zip" }
  }

  assert {
    condition     = aws_lambda_function.invalidator.s3_bucket == "artifacts" && aws_lambda_function.invalidator.s3_key == "abc/invalidator.zip" && aws_lambda_function.invalidator.filename == null
    error_message = "The function is not what lies in the bucket."
  }
}

run "function_is_an_arm64_program_with_names_only" {
  command = plan

  variables {
    reserved_concurrency = 20
  }

  assert {
    condition = (
      aws_lambda_function.invalidator.runtime == "provided.al2023"
      && aws_lambda_function.invalidator.architectures == tolist(["arm64"])
      && aws_lambda_function.invalidator.reserved_concurrent_executions == 20
    )
    error_message = "The function is not a program for ARM64, or takes the account's pool."
  }

  assert {
    condition     = one(aws_lambda_function.invalidator.environment).variables["TAGGED_CONFIG_REFRESH_CREDENTIAL_PARAMETER"] == var.refresh_credential_parameter
    error_message = "The function is given the credential, not its parameter's name."
  }

  assert {
    condition     = one(aws_lambda_function.invalidator.environment).variables["TAGGED_CONFIG_JOURNAL_TABLE"] == var.journal_table_name
    error_message = "The function does not know the journal."
  }
}

run "every_way_to_fail_has_a_queue" {
  command = plan

  assert {
    condition     = toset(keys(aws_sqs_queue.dead_letter)) == toset(["rule", "function", "stream"])
    error_message = "A way to fail has no queue."
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.dead_letter : queue.sqs_managed_sse_enabled && queue.message_retention_seconds == 1209600])
    error_message = "Dead letters are lost early, or lie unencrypted."
  }

  assert {
    condition     = one(aws_cloudwatch_event_target.this["parameter-change"].retry_policy).maximum_retry_attempts == 10
    error_message = "EventBridge would try for a day."
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.invalidator.maximum_retry_attempts == 2
    error_message = "Failed events are not tried again."
  }
}

run "only_the_rule_may_invoke" {
  command = plan

  assert {
    condition     = aws_lambda_permission.events["parameter-change"].principal == "events.amazonaws.com" && aws_lambda_permission.events["parameter-change"].action == "lambda:InvokeFunction"
    error_message = "Another service may invoke the function."
  }
}

run "a_package_needs_a_key" {
  command = plan

  variables {
    package = { s3_bucket = "b" }
  }

  expect_failures = [var.package]
}

run "no_package_is_refused" {
  command = plan

  variables {
    package = {}
  }

  expect_failures = [var.package]
}

run "a_short_timeout_is_refused" {
  command = plan

  variables {
    timeout_seconds = 1
  }

  expect_failures = [var.timeout_seconds]
}

run "too_little_memory_is_refused" {
  command = plan

  variables {
    memory_mib = 64
  }

  expect_failures = [var.memory_mib]
}

run "switching_off_by_concurrency_is_refused" {
  command = plan

  variables {
    reserved_concurrency = 0
  }

  expect_failures = [var.reserved_concurrency]
}

run "a_port_that_does_not_exist_is_refused" {
  command = plan

  variables {
    refresh_port = 0
  }

  expect_failures = [var.refresh_port]
}

run "a_relative_parameter_is_refused" {
  command = plan

  variables {
    refresh_credential_parameter = "credential"
  }

  expect_failures = [var.refresh_credential_parameter]
}

run "root_with_a_trailing_slash_is_refused" {
  command = plan

  variables {
    parameter_root = "/x/"
  }

  expect_failures = [var.parameter_root]
}

run "a_malformed_function_is_refused" {
  command = plan

  variables {
    function_name = "a b"
  }

  expect_failures = [var.function_name]
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
