# Is it fast, is it fresh, is anything failing: one row each (of up to two lines).

locals {
  # Of config-service's own metrics, and of the invalidator's.
  config_service = ["service", "config-service"]

  # For each widget its title and what it draws: a metric with its dimensions, and last how it is counted.
  widgets = {
    fast = {
      title   = "Reads that called the backend, p50 / p99 (s)"
      metrics = [for stat in ["p50", "p99"] : concat([var.metrics_namespace, "config_read_duration_seconds"], local.config_service, [{ stat = stat, label = stat }])]
    }
    hit_ratio = {
      title = "Cache hits, % of reads"
      metrics = [
        [{ expression = "100 * hits / reads", label = "hit ratio", id = "ratio" }],
        [{ expression = "SUM(SEARCH('{${var.metrics_namespace},service,backend,result} MetricName=\"config_reads_total\" result=\"hit\"', 'Sum', 60))", id = "hits", visible = false }],
        concat([var.metrics_namespace, "config_reads_total"], local.config_service, [{ stat = "Sum", id = "reads", visible = false }]),
      ]
    }
    hits = {
      title   = "Reads by backend and result"
      metrics = [[{ expression = "SEARCH('{${var.metrics_namespace},service,backend,result} MetricName=\"config_reads_total\"', 'Sum', 60)" }]]
    }
    cache = {
      title = "Cache of the fullest task: bytes, and entries (right)"
      metrics = [
        concat([var.metrics_namespace, "config_cache_bytes"], local.config_service, [{ stat = "Maximum", label = "bytes" }]),
        concat([var.metrics_namespace, "config_cache_entries"], local.config_service, [{ stat = "Maximum", label = "entries", yAxis = "right" }]),
      ]
    }
    fresh = {
      title   = "Change written -> applied, p50 / p99 / max (s)"
      metrics = [for stat in ["p50", "p99", "Maximum"] : concat([var.metrics_namespace, "config_propagation_seconds"], local.config_service, [{ stat = stat, label = stat }])]
    }
    repairs = {
      title   = "Changes that push missed, by what found them"
      metrics = [[{ expression = "SEARCH('{${var.metrics_namespace},service,by} MetricName=\"config_repairs_total\"', 'Sum', 60)" }]]
    }
    sweeps = {
      title = "Sweeps of the journal: ok, and failed (right)"
      metrics = [
        concat([var.metrics_namespace, "config_sweeps_total"], local.config_service, ["result", "ok", { stat = "Sum", label = "ok" }]),
        concat([var.metrics_namespace, "config_sweeps_total"], local.config_service, ["result", "failed", { stat = "Sum", label = "failed", yAxis = "right" }]),
      ]
    }
    bounds = {
      title = "How long a change may stay unseen, by what fails, of the worst task (s)"
      metrics = [
        for failure in ["push_lost", "journal_unreachable"] :
        concat([var.metrics_namespace, "config_staleness_bound_seconds"], local.config_service, ["failure", failure, { stat = "Maximum", label = failure }])
      ]
    }
    fanout = {
      title = "Refresh fan-out: tasks, and those that failed"
      metrics = [
        [var.metrics_namespace, "refresh_fanout_targets", { stat = "Maximum", label = "tasks" }],
        [var.metrics_namespace, "refresh_fanout_failures", { stat = "Sum", label = "failures" }],
      ]
    }
    fanout_times = {
      title = "Refresh fan-out: age of the change at its end, and the calls alone, p50 / p99 (ms)"
      metrics = [
        for pair in setproduct(["refresh_change_age_ms", "refresh_fanout_ms"], ["p50", "p99"]) :
        [var.metrics_namespace, pair[0], { stat = pair[1], label = "${pair[0] == "refresh_fanout_ms" ? "calls" : "age"} ${pair[1]}" }]
      ]
    }
    paths = {
      title = "Latency by path at the load balancer, p50 / p99 (s)"
      metrics = [
        for pair in setproduct(keys(var.target_group_arn_suffixes), ["p50", "p99"]) :
        ["AWS/ApplicationELB", "TargetResponseTime", "TargetGroup", var.target_group_arn_suffixes[pair[0]], "LoadBalancer", var.alb_arn_suffix, { stat = pair[1], label = "${pair[0]} ${pair[1]}" }]
      ]
    }
    edge = {
      title = "API: latency p50 / p99 (ms), 4xx and 5xx"
      metrics = concat(
        var.rest_api == null ? [] : [
          for pair in [["Latency", "p50"], ["Latency", "p99"], ["4XXError", "Sum"], ["5XXError", "Sum"]] :
          ["AWS/ApiGateway", pair[0], "ApiName", var.rest_api.name, "Stage", var.rest_api.stage, { stat = pair[1] }]
        ],
        var.http_api_id == null ? [] : [
          for pair in [["Latency", "p50"], ["Latency", "p99"], ["4xx", "Sum"], ["5xx", "Sum"]] :
          ["AWS/ApiGateway", pair[0], "ApiId", var.http_api_id, { stat = pair[1] }]
        ],
      )
    }
    blocked = {
      title = "Web ACL: blocked and counted"
      metrics = var.web_acl_name == null ? [] : [
        [{ expression = "SEARCH('{AWS/WAFV2,Region,Rule,WebACL} MetricName=\"BlockedRequests\" WebACL=\"${var.web_acl_name}\"', 'Sum', 60)" }],
        [{ expression = "SEARCH('{AWS/WAFV2,Region,Rule,WebACL} MetricName=\"CountedRequests\" WebACL=\"${var.web_acl_name}\"', 'Sum', 60)" }],
      ]
    }
    tasks = {
      title = "Running tasks"
      metrics = var.cluster_name == null ? [] : [
        for service in ["config-service", "order-service"] :
        ["ECS/ContainerInsights", "RunningTaskCount", "ClusterName", var.cluster_name, "ServiceName", service, { stat = "Average" }]
      ]
    }
    answers = {
      title = "Answers by class"
      metrics = [
        ["AWS/ApplicationELB", "HTTPCode_Target_2XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
        ["AWS/ApplicationELB", "HTTPCode_Target_4XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
        ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
        ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
      ]
    }
    # Refused ones, and edits that break their schema, on the right: either is rare.
    changes = {
      title = "Changes per minute: by operation; refused, and edits that break their schema (right)"
      metrics = [
        [{ expression = "SEARCH('{${var.metrics_namespace},service,operation} MetricName=\"config_changes_total\"', 'Sum', 60)" }],
        concat([var.metrics_namespace, "config_changes_refused_total"], local.config_service, [{ stat = "Sum", label = "refused", yAxis = "right" }]),
        concat([var.metrics_namespace, "config_guarded_edits_total"], local.config_service, [{ stat = "Sum", label = "edits that break their schema", yAxis = "right" }]),
      ]
    }
    invalidator = {
      title = "Invalidator: errors, iterator age (ms), duration p99 (ms)"
      metrics = [
        ["AWS/Lambda", "Errors", "FunctionName", var.function_name, { stat = "Sum" }],
        ["AWS/Lambda", "IteratorAge", "FunctionName", var.function_name, { stat = "Maximum" }],
        ["AWS/Lambda", "Duration", "FunctionName", var.function_name, { stat = "p99" }],
      ]
    }
    dead_letters = {
      title = "Dead letters waiting"
      metrics = [
        for name in values(var.dead_letter_queue_names) :
        ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", name, { stat = "Maximum" }]
      ]
    }
  }

  # What a target has not (tasks, an API with metrics of its own) leaves its place empty.
  rows = [
    for row in [
      ["fast", "hit_ratio", "hits", "paths", "edge", "cache"],
      ["fresh", "repairs", "sweeps", "bounds", "fanout", "fanout_times"],
      ["answers", "changes", "invalidator", "dead_letters", "blocked", "tasks"],
    ] : [for key in row : key if length(local.widgets[key].metrics) > 0]
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = flatten([
      for index, row in local.rows : [
        for place, key in row : {
          type   = "metric"
          x      = place % 3 * 8
          y      = index * 12 + floor(place / 3) * 6
          width  = 8
          height = 6
          properties = {
            title   = local.widgets[key].title
            region  = var.region
            view    = "timeSeries"
            period  = 60
            metrics = local.widgets[key].metrics
          }
        }
      ]
    ])
  })
}
