# Is it fast, is it fresh, is anything failing: one row each.

locals {
  # The programs' own metrics have dimensions that this module need not know, so they are searched by name.
  searched = {
    fast = {
      title   = "Read latency p50 / p99 (s)"
      metrics = [["config_read_duration_seconds", "p50"], ["config_read_duration_seconds", "p99"]]
    }
    hits = {
      title   = "Reads by backend and result"
      metrics = [["config_reads_total", "Sum"]]
    }
    fresh = {
      title   = "Change written -> applied, p50 / p99 / max (s)"
      metrics = [["config_propagation_seconds", "p50"], ["config_propagation_seconds", "p99"], ["config_propagation_seconds", "Maximum"]]
    }
    repairs = {
      title   = "Changes that push missed"
      metrics = [["config_repairs_total", "Sum"]]
    }
    fanout = {
      title   = "Refresh fan-out: targets and failures"
      metrics = [["refresh_fanout_targets", "Maximum"], ["refresh_fanout_failures", "Sum"]]
    }
    cache = {
      title   = "Cache: bytes and entries"
      metrics = [["config_cache_bytes", "Maximum"], ["config_cache_entries", "Maximum"]]
    }
  }

  named = {
    answers = {
      title = "Answers by class"
      metrics = [
        ["AWS/ApplicationELB", "HTTPCode_Target_2XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
        ["AWS/ApplicationELB", "HTTPCode_Target_4XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
        ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
        ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", var.alb_arn_suffix, { stat = "Sum" }],
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

  rows = [
    ["fast", "hits", "cache"],
    ["fresh", "repairs", "fanout"],
    ["answers", "invalidator", "dead_letters"],
  ]

  widget_metrics = merge(
    { for key, widget in local.named : key => widget.metrics },
    {
      for key, widget in local.searched : key => [
        for metric in widget.metrics :
        [{ expression = "SEARCH('Namespace=\"${var.metrics_namespace}\" MetricName=\"${metric[0]}\"', '${metric[1]}', 60)" }]
      ]
    },
  )

  titles = merge(
    { for key, widget in local.named : key => widget.title },
    { for key, widget in local.searched : key => widget.title },
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = flatten([
      for y, row in local.rows : [
        for x, key in row : {
          type   = "metric"
          x      = x * 8
          y      = y * 6
          width  = 8
          height = 6
          properties = {
            title   = local.titles[key]
            region  = var.region
            view    = "timeSeries"
            period  = 60
            metrics = local.widget_metrics[key]
          }
        }
      ]
    ])
  })
}
