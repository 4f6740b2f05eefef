# The pool's signing keys, where a VPC without NAT can read them: a function outside the VPC copies them to an S3
# object every few minutes, and once before any task starts. The object decides which tokens are accepted, so only
# the function may write it.

data "aws_partition" "current" {}

locals {
  bucket_name   = "${var.name}-jwks-${var.account_id}-${var.region}"
  bucket_arn    = "arn:${data.aws_partition.current.partition}:s3:::${local.bucket_name}"
  object_key    = "jwks.json"
  object_arn    = "${local.bucket_arn}/${local.object_key}"
  function_name = "${var.name}-jwks-mirror"
  rule_arn      = "arn:${data.aws_partition.current.partition}:events:${var.region}:${var.account_id}:rule/${local.function_name}"
  queue_arn     = "arn:${data.aws_partition.current.partition}:sqs:${var.region}:${var.account_id}:${local.function_name}-dead-letter"
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_117:It runs outside the VPC on purpose: the VPC has no way to the pool's keys.
  #checkov:skip=CKV_AWS_272:Packages come from a bucket that only deployments may write; code signing needs an account-wide profile.
  #checkov:skip=CKV_AWS_173:Its environment holds no secret, only names.
  function_name = local.function_name
  description   = "Copies the user pool's signing keys to S3"
  role          = aws_iam_role.this.arn

  filename         = var.package.filename
  source_code_hash = var.package.filename == null ? null : filebase64sha256(var.package.filename)
  s3_bucket        = var.package.s3_bucket
  s3_key           = var.package.s3_key
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]

  timeout                        = 60
  memory_size                    = 128
  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = {
      TAGGED_CONFIG_ISSUER      = var.issuer
      TAGGED_CONFIG_JWKS_BUCKET = aws_s3_bucket.this.bucket
      TAGGED_CONFIG_JWKS_KEY    = local.object_key
    }
  }

  dead_letter_config {
    target_arn = aws_sqs_queue.dead_letter.arn
  }

  tracing_config {
    mode = "PassThrough"
  }

  logging_config {
    log_group  = var.log_group_name
    log_format = "JSON"
  }

  depends_on = [aws_iam_role_policy.this]
}

# === schedule ===

resource "aws_cloudwatch_event_rule" "schedule" {
  name                = local.function_name
  description         = "Copies the signing keys every minute; tasks read the copy every minute: a key that left is refused within five minutes"
  schedule_expression = "rate(1 minute)"
}

resource "aws_cloudwatch_event_target" "this" {
  rule = aws_cloudwatch_event_rule.schedule.name
  arn  = aws_lambda_function.this.arn

  retry_policy {
    maximum_event_age_in_seconds = 300
    maximum_retry_attempts       = 2
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letter.arn
  }

  depends_on = [aws_lambda_permission.schedule]
}

resource "aws_lambda_permission" "schedule" {
  statement_id  = "Schedule"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.schedule.arn
}

resource "aws_lambda_function_event_invoke_config" "this" {
  function_name                = aws_lambda_function.this.function_name
  maximum_event_age_in_seconds = 300
  maximum_retry_attempts       = 2
}

# Invoked once during the apply: no task starts before there are keys (the output `jwks_url` waits for it).
resource "aws_lambda_invocation" "first" {
  function_name = aws_lambda_function.this.function_name
  input         = "{}"

  depends_on = [aws_s3_bucket_policy.this, aws_s3_bucket_server_side_encryption_configuration.this]
}

resource "aws_sqs_queue" "dead_letter" {
  name                       = "${local.function_name}-dead-letter"
  message_retention_seconds  = 1209600
  visibility_timeout_seconds = 60
  sqs_managed_sse_enabled    = true
}

data "aws_iam_policy_document" "dead_letter" {
  statement {
    sid       = "Schedule"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.rule_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }
  }
}

resource "aws_sqs_queue_policy" "dead_letter" {
  queue_url = aws_sqs_queue.dead_letter.id
  policy    = data.aws_iam_policy_document.dead_letter.json
}
