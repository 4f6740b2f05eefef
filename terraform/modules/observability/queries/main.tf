# Questions to the logs that whoever is on call would otherwise type at night (Logs Insights, "Saved queries").

locals {
  queries = {
    errors = {
      groups = ["config-service", "order-service", "invalidator", "jwks-mirror"]
      query  = "fields @timestamp, @log, message, error | filter level = \"ERROR\" or level = \"WARN\" | sort @timestamp desc | limit 200"
    }
    slow-fanouts = {
      groups = ["invalidator"]
      query  = "filter message = \"receipt\" | fields @timestamp, location, version, targets, acknowledged, write_to_start_ms, read_ms, fanout_ms | sort fanout_ms desc | limit 50"
    }
    laggards = {
      groups = ["invalidator"]
      query  = "filter message = \"receipt\" and laggards > 0 | fields @timestamp, location, version, targets, acknowledged, laggards | sort @timestamp desc | limit 200"
    }
    propagation = {
      groups = ["invalidator"]
      query  = "filter message = \"receipt\" and write_time_whole_seconds = 0 | stats pct(write_to_start_ms, 50), pct(write_to_start_ms, 99), pct(fanout_ms, 99), count() by bin(5m)"
    }
    refused-requests = {
      groups = ["api"]
      query  = "filter status >= 400 | stats count() by status, errorType, resource | sort count desc"
    }
    slow-requests = {
      groups = ["api"]
      query  = "stats pct(latencyMs, 50), pct(latencyMs, 99), max(latencyMs), count() by resource, bin(5m)"
    }
    blocked-requests = {
      groups = ["waf"]
      query  = "filter action = \"BLOCK\" | stats count() by terminatingRuleId, httpRequest.uri | sort count desc | limit 100"
    }
  }
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each = local.queries

  name            = "${var.name}/${each.key}"
  log_group_names = [for group in each.value.groups : var.log_group_names[group]]
  query_string    = each.value.query
}
