# Saved queries of CloudWatch Logs Insights, for the operator on call.

locals {
  queries = {
    errors = {
      groups = ["config-service", "order-service", "invalidator", "jwks-mirror"]
      query  = "fields @timestamp, @log, level, message, error | filter level = \"ERROR\" or level = \"WARN\" | sort @timestamp desc | limit 200"
    }
    errors-by-message = {
      groups = ["config-service", "order-service", "invalidator", "jwks-mirror"]
      query  = "filter level = \"ERROR\" or level = \"WARN\" | stats count(*) as lines, latest(error) as last_error by @log, level, message | sort lines desc"
    }
    failed-requests = {
      groups = ["config-service"]
      query  = "filter message = \"request failed\" | stats count(*) as requests by status, method, path | sort requests desc | limit 100"
    }
    failed-backends = {
      groups = ["config-service"]
      query  = "filter message in [\"the backend failed\", \"the backend refuses this service\", \"a stored value is malformed\"] | stats count(*) as calls, latest(error) as last_error by message, operation | sort calls desc"
    }
    # Who changed what: one line for each requested change, made or not.
    changes = {
      groups = ["config-service"]
      query  = "filter message in [\"configuration changed\", \"write refused\"] | fields @timestamp, message, operation, `tenant.id`, `config.key`, version, error | sort @timestamp desc | limit 200"
    }
    # A caller in the VPC without the credential, or a rotation that has not reached every program.
    refused-refreshes = {
      groups = ["config-service"]
      query  = "filter message = \"a caller of the refresh port was refused\" | stats count(*) as calls by @logStream, bin(5m) | sort calls desc"
    }
    # Times are of one batch, and the same in each receipt of it.
    slow-fanouts = {
      groups = ["invalidator"]
      query  = "filter message = \"receipt\" | fields @timestamp, location, version, targets, acknowledged, write_to_start_ms, read_ms, discover_ms, fanout_ms | sort fanout_ms desc | limit 50"
    }
    laggards = {
      groups = ["invalidator"]
      query  = "filter message = \"receipt\" and laggards > 0 | fields @timestamp, location, version, targets, acknowledged, laggards | sort @timestamp desc | limit 200"
    }
    # By its text: the line has a `message` of the refusing task too.
    unreached-tasks = {
      groups = ["invalidator"]
      query  = "filter @message like \"a task was not refreshed\" | stats count(*) as calls by code, bin(5m) | sort calls desc"
    }
    propagation = {
      groups = ["invalidator"]
      query  = "filter message = \"receipt\" and write_time_whole_seconds = 0 | stats pct(write_to_start_ms, 50), pct(write_to_start_ms, 99), pct(fanout_ms, 99), count(*) by bin(5m)"
    }
    refused-tokens = {
      groups = ["api"]
      query  = "filter status in [\"401\", \"403\"] | stats count(*) as requests by status, errorType, authorizerError, resource | sort requests desc"
    }
    refused-requests = {
      groups = ["api"]
      query  = "filter status >= 400 | stats count(*) as requests by status, errorType, resource | sort requests desc"
    }
    slow-requests = {
      groups = ["api"]
      query  = "stats pct(latencyMs, 50), pct(latencyMs, 99), max(latencyMs), pct(integrationMs, 99), count(*) by resource, bin(5m)"
    }
    # By `sub`; the pool knows whose tenant: aws cognito-idp list-users --filter 'sub = "..."'.
    busiest-users = {
      groups = ["api"]
      query  = "stats count(*) as requests, pct(latencyMs, 99) by `user.id` | sort requests desc | limit 50"
    }
    blocked-requests = {
      groups = ["waf"]
      query  = "filter action = \"BLOCK\" | stats count(*) as requests by terminatingRuleId, httpRequest.uri | sort requests desc | limit 100"
    }
  }
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each = local.queries

  name            = "${var.name}/${each.key}"
  log_group_names = [for group in each.value.groups : var.log_group_names[group]]
  query_string    = each.value.query
}
