# The alarms that call an operator. Each description says what users notice. The first ones are the objectives of the service.

locals {
  # The two kinds of API name the same thing differently.
  api = var.rest_api == null ? {
    errors     = "5xx"
    dimensions = { ApiId = var.http_api_id }
    } : {
    errors     = "5XXError"
    dimensions = { ApiName = try(var.rest_api.name, ""), Stage = try(var.rest_api.stage, "") }
  }

  # By its id in an expression, which takes no hyphen.
  backends = { for backend in var.backends : replace(backend, "-", "_") => backend }
}

# Availability: of 100 answers, less than one is an error of ours. RequestCount has only requests for which a target was chosen:
# without a healthy one there are the balancer's own errors alone, and they are then all the requests.
resource "aws_cloudwatch_metric_alarm" "availability" {
  alarm_name          = "${var.name}-availability"
  alarm_description   = "More than ${var.max_error_percent} % of the answers are server errors."
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_error_percent
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns

  metric_query {
    id          = "percent"
    expression  = "100 * (FILL(task, 0) + FILL(balancer, 0)) / (FILL(requests, 0) + FILL(balancer, 0))"
    label       = "Server errors, %"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { task = "HTTPCode_Target_5XX_Count", balancer = "HTTPCode_ELB_5XX_Count", requests = "RequestCount" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ApplicationELB"
        metric_name = metric_query.value
        dimensions  = { LoadBalancer = var.alb_arn_suffix }
        period      = 300
        stat        = "Sum"
      }
    }
  }
}

# The same at the edge. It shows a broken VPC link or load balancer, which no task can see.
resource "aws_cloudwatch_metric_alarm" "edge_errors" {
  alarm_name          = "${var.name}-edge-errors"
  alarm_description   = "More than ${var.max_error_percent} % of the answers of the API are server errors."
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_error_percent
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns

  metric_query {
    id          = "percent"
    expression  = "100 * FILL(errors, 0) / requests"
    label       = "Server errors of the API, %"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { errors = local.api.errors, requests = "Count" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ApiGateway"
        metric_name = metric_query.value
        dimensions  = local.api.dimensions
        period      = 300
        stat        = "Sum"
      }
    }
  }
}

# The same for reads by gRPC, which pass no load balancer. A stale answer is an answer.
resource "aws_cloudwatch_metric_alarm" "read_errors" {
  alarm_name          = "${var.name}-read-errors"
  alarm_description   = "More than ${var.max_error_percent} % of the reads of configuration get no answer."
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_error_percent
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns

  metric_query {
    id          = "percent"
    expression  = "100 * (${join(" + ", [for id in keys(local.backends) : "FILL(${id}, 0)"])}) / reads"
    label       = "Reads without an answer, %"
    return_data = true
  }

  metric_query {
    id = "reads"

    metric {
      namespace   = var.metrics_namespace
      metric_name = "config_reads_total"
      dimensions  = { service = "config-service" }
      period      = 300
      stat        = "Sum"
    }
  }

  dynamic "metric_query" {
    for_each = local.backends

    content {
      id = metric_query.key

      metric {
        namespace   = var.metrics_namespace
        metric_name = "config_reads_total"
        dimensions  = { service = "config-service", backend = metric_query.value, result = "error" }
        period      = 300
        stat        = "Sum"
      }
    }
  }
}

# Latency, of either service.
resource "aws_cloudwatch_metric_alarm" "latency" {
  for_each = var.target_group_arn_suffixes

  alarm_name          = "${var.name}-latency-${each.key}"
  alarm_description   = "One request in a hundred to ${each.key} waits longer than ${var.max_latency_seconds} s."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  dimensions          = { LoadBalancer = var.alb_arn_suffix, TargetGroup = each.value }
  extended_statistic  = "p99"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_latency_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Freshness. A change whose time is a whole second can appear up to one second late.
resource "aws_cloudwatch_metric_alarm" "propagation" {
  alarm_name          = "${var.name}-propagation"
  alarm_description   = "One change in a hundred takes longer than ${var.max_propagation_seconds} s to reach a task."
  namespace           = var.metrics_namespace
  metric_name         = "config_propagation_seconds"
  dimensions          = { service = "config-service" }
  extended_statistic  = "p99"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_propagation_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Found by a read after the TTL: the change was not in the journal, or could not be read there.
resource "aws_cloudwatch_metric_alarm" "repairs" {
  alarm_name          = "${var.name}-repairs"
  alarm_description   = "Changes were found that neither push nor journal had brought: users saw old values for up to the TTL."
  namespace           = var.metrics_namespace
  metric_name         = "config_repairs_total"
  dimensions          = { service = "config-service", by = "ttl" }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Every task counts a change of its own, and a push that is more than two seconds behind the sweep counts too: a lost
# change, or a cold start, is no alarm; push that goes on failing is.
resource "aws_cloudwatch_metric_alarm" "sweep_repairs" {
  alarm_name          = "${var.name}-sweep-repairs"
  alarm_description   = "Changes keep reaching tasks by the journal, not by push: users see old values for some seconds."
  namespace           = var.metrics_namespace
  metric_name         = "config_repairs_total"
  dimensions          = { service = "config-service", by = "sweep" }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 10
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# While sweeps fail, a lost push is found by the TTL only. A single minute is a moment in which DynamoDB did not answer.
resource "aws_cloudwatch_metric_alarm" "sweeps" {
  alarm_name          = "${var.name}-journal-sweeps"
  alarm_description   = "Tasks cannot read the change journal: a change whose push is lost stays unseen for the whole TTL."
  namespace           = var.metrics_namespace
  metric_name         = "config_sweeps_total"
  dimensions          = { service = "config-service", result = "failed" }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Keys are fetched every minute, and a failed fetch is repeated within 30 s. Keys that a task cannot fetch for a day are
# dropped, and then every token is refused.
resource "aws_cloudwatch_metric_alarm" "signing_keys_age" {
  alarm_name          = "${var.name}-signing-keys-age"
  alarm_description   = "A task cannot fetch the signing keys: tokens of a revoked key are accepted, and after a day all tokens are refused."
  namespace           = var.metrics_namespace
  metric_name         = "config_signing_keys_age_seconds"
  dimensions          = { service = "config-service" }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 300
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# A schema guards what is written through the service. What is written past the service meets no check until it is read, and
# then a value that breaks its schema is not served.
resource "aws_cloudwatch_metric_alarm" "guarded_edits" {
  alarm_name          = "${var.name}-guarded-edits"
  alarm_description   = "A value that was written past the service breaks its schema, and is not served."
  namespace           = var.metrics_namespace
  metric_name         = "config_guarded_edits_total"
  dimensions          = { service = "config-service" }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Of both writers: config-service counts writes that went on without their entry, the invalidator events that it will see again.
resource "aws_cloudwatch_metric_alarm" "history_failures" {
  alarm_name          = "${var.name}-history-failures"
  alarm_description   = "Changes cannot be written into the history: it does not say who made them, or not yet."
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns

  metric_query {
    id          = "failures"
    expression  = "FILL(writes, 0) + FILL(events, 0)"
    label       = "Entries of the history that were not written"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = {
      writes = { metric = "history_failures", dimensions = { service = "config-service" } }
      events = { metric = "history_append_failures", dimensions = {} }
    }

    content {
      id = metric_query.key

      metric {
        namespace   = var.metrics_namespace
        metric_name = metric_query.value.metric
        dimensions  = metric_query.value.dimensions
        period      = 60
        stat        = "Sum"
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "healthy_tasks" {
  for_each = var.target_group_arn_suffixes

  alarm_name          = "${var.name}-healthy-tasks-${each.key}"
  alarm_description   = "No healthy task of ${each.key} is behind the load balancer."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  dimensions          = { LoadBalancer = var.alb_arn_suffix, TargetGroup = each.value }
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

resource "aws_cloudwatch_metric_alarm" "key_mirror_errors" {
  alarm_name          = "${var.name}-key-mirror-errors"
  alarm_description   = "Signing keys are not copied: after a rotation of the pool's keys new tokens would be refused."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = var.key_mirror_function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Invoked every minute: without an invocation there are no errors either.
resource "aws_cloudwatch_metric_alarm" "key_mirror_stopped" {
  alarm_name          = "${var.name}-key-mirror-stopped"
  alarm_description   = "Nobody copies the signing keys: after a rotation of the pool's keys new tokens would be refused."
  namespace           = "AWS/Lambda"
  metric_name         = "Invocations"
  dimensions          = { FunctionName = var.key_mirror_function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Anything in one of these queues is a change of configuration that push has lost.
resource "aws_cloudwatch_metric_alarm" "dead_letter" {
  for_each = var.dead_letter_queue_names

  alarm_name          = "${var.name}-dead-letter-${each.key}"
  alarm_description   = "Changes of configuration that could not be handled wait in ${each.value}."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = each.value }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

# Any one is an alarm: each is over within its minute. What ends in a queue is counted at once here: a queue that was empty for six
# hours shows its first message up to 15 minutes late, and an event that finds no way into its queue is in no queue at all. Where a
# batch of the stream fails, the function answers normally, with the records that failed, and its metric Errors does not have it.
resource "aws_cloudwatch_metric_alarm" "lost_changes" {
  for_each = local.lost_changes

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.description} (${each.value.metric})."
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

locals {
  lost_event = "Changes of parameters, blobs or secrets did not reach the invalidator, or it could not handle them"
  function   = { FunctionName = var.function_name }

  lost_changes = merge(
    {
      events-dropped            = { namespace = "AWS/Lambda", metric = "AsyncEventsDropped", dimensions = local.function, description = local.lost_event }
      events-dead-letter-errors = { namespace = "AWS/Lambda", metric = "DeadLetterErrors", dimensions = local.function, description = local.lost_event }
      batch-failures = {
        namespace   = var.metrics_namespace
        metric      = "refresh_batch_failures"
        dimensions  = {}
        description = "The invalidator cannot handle changes of the table: they reach caches by the time to live"
      }
      # Counted by Lambda, not by the function: invocations that never got so far.
      stream-failures = {
        namespace   = "AWS/Lambda"
        metric      = "FailedInvokeEventCount"
        dimensions  = { EventSourceMappingUUID = var.stream_mapping_id }
        description = "Lambda cannot invoke the invalidator with changes of the table"
      }
    },
    {
      for key, rule in var.rule_names : "events-undelivered-${key}" => {
        namespace   = "AWS/Events"
        metric      = "InvocationsSentToDlq"
        dimensions  = { RuleName = rule }
        description = local.lost_event
      }
    },
    {
      for key, rule in var.rule_names : "events-undelivered-errors-${key}" => {
        namespace   = "AWS/Events"
        metric      = "InvocationsFailedToBeSentToDlq"
        dimensions  = { RuleName = rule }
        description = local.lost_event
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "invalidator_errors" {
  alarm_name          = "${var.name}-invalidator-errors"
  alarm_description   = "The invalidator fails: changes reach caches late, by the sweep or the time to live."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = var.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

resource "aws_cloudwatch_metric_alarm" "stream_lag" {
  alarm_name          = "${var.name}-stream-lag"
  alarm_description   = "The oldest change of the table that is still waiting for the invalidator is over 10 s old."
  namespace           = "AWS/Lambda"
  metric_name         = "IteratorAge"
  dimensions          = { FunctionName = var.function_name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 10000
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

resource "aws_cloudwatch_metric_alarm" "fanout_failures" {
  alarm_name          = "${var.name}-fanout-failures"
  alarm_description   = "Tasks that Cloud Map names do not take the invalidator's refresh calls."
  namespace           = var.metrics_namespace
  metric_name         = "refresh_fanout_failures"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}

resource "aws_cloudwatch_metric_alarm" "journal_writes" {
  alarm_name          = "${var.name}-journal-writes"
  alarm_description   = "The invalidator cannot write changes into the journal: a task that its call does not reach learns of them when its cache expires."
  namespace           = var.metrics_namespace
  metric_name         = "refresh_journal_failures"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
}
