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
  name   = "tagged-config"
  region = "eu-west-1"
  log_groups = {
    config-service = "/tagged-config/config-service"
    invalidator    = "/aws/lambda/tagged-config-invalidator"
  }
  function_name           = "tagged-config-invalidator"
  dead_letter_queue_names = { rule = "r", function = "f", stream = "s" }
  alb_arn_suffix          = "app/a/1"
}

run "logs_have_an_end" {
  command = plan

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.retention_in_days == 30 && group.kms_key_id == null])
    error_message = "Logs are kept for ever."
  }
}

run "logs_have_a_key" {
  command = plan

  variables {
    log_kms_key_arn = "arn:aws:kms:eu-west-1:111122223333:key/1"
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.kms_key_id == var.log_kms_key_arn])
    error_message = "A log group is not encrypted with the key."
  }
}

# Whatever a target lacks leaves no empty widget.
run "dashboard_of_a_small_target" {
  command = plan

  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : length(widget.properties.metrics) > 0])
    error_message = "A widget is empty."
  }

  assert {
    condition     = !strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "AWS/WAFV2") && !strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "AWS/ApiGateway")
    error_message = "The dashboard shows what the target has not."
  }
}

run "dashboard_answers_the_three_questions" {
  command = plan

  variables {
    cluster_name              = "tagged-config"
    rest_api                  = { name = "tagged-config", stage = "live" }
    web_acl_name              = "tagged-config"
    target_group_arn_suffixes = { config-service = "targetgroup/c/1", order-service = "targetgroup/o/1" }
  }

  assert {
    condition = alltrue([
      for metric in [
        # fast
        "config_read_duration_seconds", "config_reads_total", "config_cache_bytes", "config_cache_entries",
        "TargetResponseTime", "Latency",
        # fresh
        "config_propagation_seconds", "config_repairs_total", "config_sweeps_total", "config_staleness_bound_seconds", "refresh_fanout_targets", "refresh_fanout_failures",
        "refresh_change_age_ms", "refresh_fanout_ms", "IteratorAge",
        # failing
        "4XXError", "5XXError", "HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count", "Errors",
        "ApproximateNumberOfMessagesVisible", "BlockedRequests", "CountedRequests", "RunningTaskCount",
        # changing
        "config_changes_total", "config_changes_refused_total", "config_guarded_edits_total",
      ] : strcontains(aws_cloudwatch_dashboard.this.dashboard_body, metric)
    ])
    error_message = "A metric is missing on the dashboard."
  }

  # p50, p99 and the maximum of how long changes take.
  assert {
    condition = [
      for metric in one([
        for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.properties.metrics
        if strcontains(jsonencode(widget.properties.metrics), "config_propagation_seconds")
      ]) : element(metric, length(metric) - 1).stat
    ] == ["p50", "p99", "Maximum"]
    error_message = "The dashboard does not show how long changes take."
  }

  # As config-service emits them: service, and one label.
  assert {
    condition = {
      for metric in flatten([
        for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [
          for metric in widget.properties.metrics : join("/", slice(metric, 1, length(metric) - 1))
          if length(metric) > 1 && contains(["config_sweeps_total", "config_staleness_bound_seconds"], try(metric[1], ""))
        ]
      ]) : metric => true
      } == {
      "config_sweeps_total/service/config-service/result/ok"                              = true
      "config_sweeps_total/service/config-service/result/failed"                          = true
      "config_staleness_bound_seconds/service/config-service/failure/push_lost"           = true
      "config_staleness_bound_seconds/service/config-service/failure/journal_unreachable" = true
    }
    error_message = "The dashboard does not show whether the journal is read, or reads a metric that no program emits."
  }

  # Repairs of both kinds.
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "{TaggedConfig,service,by} MetricName=\\\"config_repairs_total\\\"")
    error_message = "The dashboard does not show what found the changes that push missed."
  }

  # Changes by operation.
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "{TaggedConfig,service,operation} MetricName=\\\"config_changes_total\\\"")
    error_message = "The dashboard does not show how many changes of which kind there are."
  }

  assert {
    condition = [
      for metric in one([
        for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.properties.metrics
        if startswith(widget.properties.title, "Changes per minute")
      ]) : join("/", [for part in slice(metric, 1, length(metric) - 1) : part]) if length(metric) > 1
    ] == ["config_changes_refused_total/service/config-service", "config_guarded_edits_total/service/config-service"]
    error_message = "The dashboard reads a metric that no program emits."
  }

  # Both paths, at p50 and p99.
  assert {
    condition = length(one([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.properties.metrics
      if strcontains(jsonencode(widget.properties.metrics), "TargetResponseTime")
    ])) == 4
    error_message = "The dashboard does not show latency by path."
  }

  # A graph is 24 units wide, and no two lie on one another.
  assert {
    condition = alltrue([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.x + widget.width <= 24
      ]) && length(distinct([
        for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : "${widget.x}/${widget.y}"
    ])) == length(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets)
    error_message = "Widgets overlap."
  }

  # Without a schema a search is of every namespace of the account.
  assert {
    condition = alltrue(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [
        for metric in widget.properties.metrics : !strcontains(jsonencode(metric), "SEARCH(") || strcontains(jsonencode(metric), "SEARCH('{")
      ]
    ]))
    error_message = "A search names no schema."
  }
}

run "dashboard_of_an_http_api" {
  command = plan

  variables {
    http_api_id = "abc"
  }

  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "\"ApiId\",\"abc\"")
    error_message = "The HTTP API is not on the dashboard."
  }
}

run "a_retention_that_cloudwatch_lacks_is_refused" {
  command = plan

  variables {
    log_retention_days = 10
  }

  expect_failures = [var.log_retention_days]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
