# === Parameter Store, blobs and secrets, by EventBridge ===

locals {
  # By the name, without its prefix, that each rule has. AWS delivers these events on a best-effort basis: the services' time to
  # live bounds what a lost one costs.
  rules = merge(local.parameter_rules, local.blob_rules, local.secret_rules)

  # Label changes move no value and are left out. A parameter that a policy of its own removes is announced in another form.
  parameter_rules = {
    parameter-change = {
      description = "A configuration parameter was written or removed"
      pattern = jsonencode({
        source = ["aws.ssm"]
        "$or" = [
          {
            detail-type = ["Parameter Store Change"]
            detail = {
              name      = [{ prefix = "${var.parameter_root}/" }]
              operation = ["Create", "Update", "Delete"]
            }
          },
          {
            detail-type = ["Parameter Store Policy Action"]
            detail = {
              parameter-name = [{ prefix = "${var.parameter_root}/" }]
              policy-type    = ["Expiration"]
            }
          },
        ]
      })
    }
  }

  rule_arns = {
    for rule in keys(local.rules) : rule => "arn:${local.partition}:events:${var.region}:${var.account_id}:rule/${var.name}-${rule}"
  }
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.rules

  name          = "${var.name}-${each.key}"
  description   = each.value.description
  event_pattern = each.value.pattern
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.rules

  rule = aws_cloudwatch_event_rule.this[each.key].name
  arn  = aws_lambda_function.invalidator.arn

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 10
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letter["rule"].arn
  }

  # An event that finds the permission missing is dead at once.
  depends_on = [aws_lambda_permission.events]
}

resource "aws_lambda_permission" "events" {
  for_each = local.rules

  statement_id  = each.key
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.invalidator.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.this[each.key].arn
}

# In states from before blobs and secrets. Without these a rule would be made, and then removed by its old address.
moved {
  from = aws_cloudwatch_event_rule.parameter_change
  to   = aws_cloudwatch_event_rule.this["parameter-change"]
}

moved {
  from = aws_cloudwatch_event_target.invalidator
  to   = aws_cloudwatch_event_target.this["parameter-change"]
}

moved {
  from = aws_lambda_permission.events
  to   = aws_lambda_permission.events["parameter-change"]
}

# === DynamoDB, by its stream ===

resource "aws_lambda_event_source_mapping" "table" {
  event_source_arn = var.table_stream_arn
  function_name    = aws_lambda_function.invalidator.arn
  enabled          = true

  # What was written before the mapping existed is in no cache yet.
  starting_position = "LATEST"

  # Pushed at once: a window would be added to every change's delay.
  batch_size                         = 100
  maximum_batching_window_in_seconds = 0

  # One batch of a shard at a time: a new account may have but 10 invocations in all, and a new table has four shards.
  parallelization_factor = 1

  # For the alarm on invocations that never got as far as the function.
  metrics_config {
    metrics = ["EventCount"]
  }

  # A record that fails must not stall the tenants behind it: name it, split around it, and after three tries or
  # an hour (as long as the longest stale answer) hand it to the queue.
  function_response_types        = ["ReportBatchItemFailures"]
  bisect_batch_on_function_error = true
  maximum_retry_attempts         = 3
  maximum_record_age_in_seconds  = 3600

  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.dead_letter["stream"].arn
    }
  }

  depends_on = [aws_iam_role_policy.invalidator]
}
