# The invalidator: one function for all sources of change. sources.tf says what invokes it, queues.tf where an event goes
# that it could not handle, iam.tf what it may do; blobs.tf and secrets.tf add to them what an optional tag needs.

data "aws_partition" "current" {}

# ARNs are put together from names, so that every policy is known, and can be tested, at plan.
locals {
  partition    = data.aws_partition.current.partition
  function_arn = "arn:${local.partition}:lambda:${var.region}:${var.account_id}:function:${var.function_name}"

  parameter_arn_prefix = "arn:${local.partition}:ssm:${var.region}:${var.account_id}:parameter"
}

resource "aws_lambda_function" "invalidator" {
  #checkov:skip=CKV_AWS_272:Packages come from a bucket that only deployments may write; code signing needs an account-wide profile.
  #checkov:skip=CKV_AWS_173:Its environment holds no secret, only names.
  function_name = var.function_name
  description   = "Notifies every config-service task of a changed location"
  role          = aws_iam_role.invalidator.arn

  filename         = var.package.filename
  source_code_hash = var.package.filename == null ? null : filebase64sha256(var.package.filename)
  s3_bucket        = var.package.s3_bucket
  s3_key           = var.package.s3_key
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]

  timeout                        = var.timeout_seconds
  memory_size                    = var.memory_mib
  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = merge(
      var.extra_environment,
      {
        TAGGED_CONFIG_CLOUD_MAP_NAMESPACE          = var.cloud_map_namespace
        TAGGED_CONFIG_CLOUD_MAP_SERVICE            = var.cloud_map_service
        TAGGED_CONFIG_REFRESH_PORT                 = tostring(var.refresh_port)
        TAGGED_CONFIG_PARAMETER_ROOT               = var.parameter_root
        TAGGED_CONFIG_TABLE                        = var.table_name
        TAGGED_CONFIG_JOURNAL_TABLE                = var.journal_table_name
        TAGGED_CONFIG_HISTORY_TABLE                = var.history_table_name
        TAGGED_CONFIG_HISTORY_RETENTION_DAYS       = tostring(var.history_retention_days)
        TAGGED_CONFIG_REFRESH_CREDENTIAL_PARAMETER = var.refresh_credential_parameter
      },
      var.blob_bucket == null ? {} : { TAGGED_CONFIG_BLOB_BUCKET = var.blob_bucket },
      var.secret_root == null ? {} : { TAGGED_CONFIG_SECRET_ROOT = var.secret_root },
    )
  }

  vpc_config {
    subnet_ids         = var.subnet_ids
    security_group_ids = [var.security_group_id]
  }

  logging_config {
    log_group  = var.log_group_name
    log_format = "JSON"
  }

  tracing_config {
    mode = "PassThrough"
  }

  dead_letter_config {
    target_arn = aws_sqs_queue.dead_letter["function"].arn
  }

  # Without the policy Lambda could neither reach the VPC nor the queue that is named above.
  depends_on = [aws_iam_role_policy.invalidator]
}

# For EventBridge, which invokes asynchronously: after this, the function's dead-letter queue.
resource "aws_lambda_function_event_invoke_config" "invalidator" {
  function_name                = aws_lambda_function.invalidator.function_name
  maximum_event_age_in_seconds = 3600
  maximum_retry_attempts       = 2
}
