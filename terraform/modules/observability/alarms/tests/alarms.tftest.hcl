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
  name                      = "tagged-config"
  function_name             = "tagged-config-invalidator"
  key_mirror_function_name  = "tagged-config-jwks-mirror"
  rule_names                = { parameter-change = "tagged-config-parameter-change" }
  stream_mapping_id         = "00000000-0000-0000-0000-000000000000"
  dead_letter_queue_names   = { rule = "r", function = "f", stream = "s" }
  alb_arn_suffix            = "app/a/1"
  target_group_arn_suffixes = { config-service = "targetgroup/c/1", order-service = "targetgroup/o/1" }
  rest_api                  = { name = "tagged-config", stage = "live" }
  alarm_action_arns         = ["arn:aws:sns:eu-west-1:111122223333:tagged-config-alerts"]
}

run "objectives" {
  command = plan

  variables {
    max_error_percent       = 2
    max_latency_seconds     = 0.5
    max_propagation_seconds = 3
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.availability.threshold == 2
      && toset([for query in aws_cloudwatch_metric_alarm.availability.metric_query : one(query.metric[*].metric_name)])
      == toset([null, "HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count", "RequestCount"])
    )
    error_message = "Availability is not server errors of all answers."
  }

  # With no target at all there is no RequestCount: the quotient must not need it.
  assert {
    condition = [
      for query in aws_cloudwatch_metric_alarm.availability.metric_query : split(" / ", query.expression)[1] if query.return_data == true
    ] == ["(FILL(requests, 0) + FILL(balancer, 0))"]
    error_message = "A full outage would have no data, hence no alarm."
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.read_errors.threshold == 2
      && toset([for query in aws_cloudwatch_metric_alarm.read_errors.metric_query : try(one(query.metric).dimensions["backend"], null)])
      == toset([null, "dynamodb", "parameter-store"])
    )
    error_message = "Reads that get no answer are not counted for both backends."
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.latency : alarm.extended_statistic == "p99" && alarm.threshold == 0.5
    ]) && length(aws_cloudwatch_metric_alarm.latency) == 2
    error_message = "Latency is not p99 of each service."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.propagation.extended_statistic == "p99" && aws_cloudwatch_metric_alarm.propagation.threshold == 3
    error_message = "Freshness is not p99 of propagation."
  }

  assert {
    condition = aws_cloudwatch_metric_alarm.propagation.dimensions == tomap({ service = "config-service" }) && (
      aws_cloudwatch_metric_alarm.repairs.dimensions == tomap({ service = "config-service", by = "ttl" }) &&
      aws_cloudwatch_metric_alarm.sweep_repairs.dimensions == tomap({ service = "config-service", by = "sweep" }) &&
      aws_cloudwatch_metric_alarm.sweeps.dimensions == tomap({ service = "config-service", result = "failed" })
    )
    error_message = "The alarm reads a metric that no program emits."
  }
}

run "optional_backends_and_rules_are_watched_too" {
  command = plan

  variables {
    rule_names = { parameter-change = "tagged-config-parameter-change", secret-change = "tagged-config-secret-change" }
    backends   = ["dynamodb", "parameter-store", "s3", "secrets-manager"]
  }

  assert {
    condition = {
      for query in aws_cloudwatch_metric_alarm.read_errors.metric_query :
      query.id => one(query.metric).dimensions["backend"] if can(one(query.metric).dimensions["backend"])
    } == { dynamodb = "dynamodb", parameter_store = "parameter-store", s3 = "s3", secrets_manager = "secrets-manager" }
    error_message = "Reads of a backend are not counted."
  }

  assert {
    condition = [
      for query in aws_cloudwatch_metric_alarm.read_errors.metric_query : query.expression if query.return_data == true
    ] == ["100 * (FILL(dynamodb, 0) + FILL(parameter_store, 0) + FILL(s3, 0) + FILL(secrets_manager, 0)) / reads"]
    error_message = "Reads that get no answer are not counted for every backend."
  }

  assert {
    condition = alltrue([
      for key, rule in var.rule_names :
      aws_cloudwatch_metric_alarm.lost_changes["events-undelivered-${key}"].dimensions == tomap({ RuleName = rule })
      && aws_cloudwatch_metric_alarm.lost_changes["events-undelivered-errors-${key}"].dimensions == tomap({ RuleName = rule })
    ])
    error_message = "Events that a rule could not deliver go unseen."
  }
}

run "an_unknown_backend_is_refused" {
  command = plan

  variables {
    backends = ["redis"]
  }

  expect_failures = [var.backends]
}

run "lost_pushes_wake_someone_when_they_go_on" {
  command = plan

  assert {
    condition     = aws_cloudwatch_metric_alarm.repairs.threshold == 0 && aws_cloudwatch_metric_alarm.sweep_repairs.threshold > 0
    error_message = "A change that the sweep found counts as much as one that it missed."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.sweeps.threshold == 0 && aws_cloudwatch_metric_alarm.sweeps.period == 60 && aws_cloudwatch_metric_alarm.sweeps.evaluation_periods >= 3
    error_message = "A journal that cannot be read goes unseen, or a single failure is an alarm."
  }
}

run "what_push_loses_shows_without_an_error_of_the_function" {
  command = plan

  assert {
    condition = {
      for alarm in aws_cloudwatch_metric_alarm.lost_changes : "${alarm.namespace} ${alarm.metric_name}" => jsonencode(coalesce(alarm.dimensions, {}))
      } == {
      "AWS/Lambda AsyncEventsDropped"             = jsonencode({ FunctionName = "tagged-config-invalidator" })
      "AWS/Lambda DeadLetterErrors"               = jsonencode({ FunctionName = "tagged-config-invalidator" })
      "AWS/Events InvocationsSentToDlq"           = jsonencode({ RuleName = "tagged-config-parameter-change" })
      "AWS/Events InvocationsFailedToBeSentToDlq" = jsonencode({ RuleName = "tagged-config-parameter-change" })
      "AWS/Lambda FailedInvokeEventCount"         = jsonencode({ EventSourceMappingUUID = "00000000-0000-0000-0000-000000000000" })
      "TaggedConfig refresh_batch_failures"       = jsonencode({})
    }
    error_message = "A change that is lost shows late, or not at all."
  }

  # Four tries of a batch are over within seconds: no second minute has a failure.
  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.lost_changes : alarm.threshold == 0 && alarm.evaluation_periods == 1 && alarm.period == 60
    ])
    error_message = "A change could be lost for good unseen."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.key_mirror_stopped.treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.key_mirror_stopped.period == 300
    error_message = "A mirror that is never invoked has no errors."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.signing_keys_age.threshold == 300 && aws_cloudwatch_metric_alarm.signing_keys_age.statistic == "Maximum"
    error_message = "Keys older than the bound on revocation could go unseen."
  }
}

run "a_value_that_is_not_served_shows" {
  command = plan

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.guarded_edits.metric_name == "config_guarded_edits_total" && aws_cloudwatch_metric_alarm.guarded_edits.dimensions == tomap({ service = "config-service" })
      && aws_cloudwatch_metric_alarm.guarded_edits.statistic == "Sum" && aws_cloudwatch_metric_alarm.guarded_edits.threshold == 0
    )
    error_message = "A value that breaks its schema could be held back unseen."
  }
}

run "a_change_that_is_not_in_the_history_shows" {
  command = plan

  assert {
    condition = {
      for query in aws_cloudwatch_metric_alarm.history_failures.metric_query :
      one(query.metric).metric_name => jsonencode(coalesce(one(query.metric).dimensions, {})) if length(query.metric) > 0
    } == { history_failures = jsonencode({ service = "config-service" }), history_append_failures = jsonencode({}) }
    error_message = "Not both programs that write the history are watched."
  }

  # Where only one of them has failed, the other has no data.
  assert {
    condition = [
      for query in aws_cloudwatch_metric_alarm.history_failures.metric_query : query.expression if query.return_data == true
    ] == ["FILL(writes, 0) + FILL(events, 0)"]
    error_message = "The failures of one program alone would be no alarm."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.history_failures.threshold == 0 && aws_cloudwatch_metric_alarm.history_failures.evaluation_periods == 1
    error_message = "A change could be missing unseen."
  }
}

run "a_broken_link_shows_at_a_rest_api" {
  command = plan

  assert {
    condition = {
      for query in aws_cloudwatch_metric_alarm.edge_errors.metric_query :
      one(query.metric).metric_name => one(query.metric).dimensions if length(query.metric) > 0
      } == {
      "5XXError" = tomap({ ApiName = "tagged-config", Stage = "live" })
      Count      = tomap({ ApiName = "tagged-config", Stage = "live" })
    }
    error_message = "Errors of the REST API are not counted."
  }
}

run "a_broken_link_shows_at_an_http_api" {
  command = plan

  variables {
    rest_api    = null
    http_api_id = "a1"
  }

  assert {
    condition = {
      for query in aws_cloudwatch_metric_alarm.edge_errors.metric_query :
      one(query.metric).metric_name => one(query.metric).dimensions if length(query.metric) > 0
      } == {
      "5xx" = tomap({ ApiId = "a1" })
      Count = tomap({ ApiId = "a1" })
    }
    error_message = "Errors of the HTTP API are not counted."
  }
}

run "no_api_is_refused" {
  command = plan

  variables {
    rest_api = null
  }

  expect_failures = [var.http_api_id]
}

run "every_topic_is_notified_when_it_starts_and_ends" {
  command = plan

  assert {
    condition = alltrue([
      for alarm in concat(
        values(aws_cloudwatch_metric_alarm.dead_letter),
        values(aws_cloudwatch_metric_alarm.latency),
        values(aws_cloudwatch_metric_alarm.healthy_tasks),
        values(aws_cloudwatch_metric_alarm.lost_changes),
        [
          aws_cloudwatch_metric_alarm.availability, aws_cloudwatch_metric_alarm.edge_errors,
          aws_cloudwatch_metric_alarm.read_errors,
          aws_cloudwatch_metric_alarm.propagation, aws_cloudwatch_metric_alarm.repairs,
          aws_cloudwatch_metric_alarm.sweep_repairs, aws_cloudwatch_metric_alarm.sweeps,
          aws_cloudwatch_metric_alarm.key_mirror_errors, aws_cloudwatch_metric_alarm.invalidator_errors,
          aws_cloudwatch_metric_alarm.stream_lag, aws_cloudwatch_metric_alarm.fanout_failures,
          aws_cloudwatch_metric_alarm.journal_writes, aws_cloudwatch_metric_alarm.key_mirror_stopped,
          aws_cloudwatch_metric_alarm.signing_keys_age,
          aws_cloudwatch_metric_alarm.guarded_edits, aws_cloudwatch_metric_alarm.history_failures,
        ],
      ) : alarm.alarm_actions == toset(var.alarm_action_arns) && alarm.ok_actions == toset(var.alarm_action_arns) && length(alarm.alarm_description) > 0
    ])
    error_message = "An alarm has no receiver, or does not say what users notice."
  }
}

run "no_task_is_an_alarm_even_without_data" {
  command = plan

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.healthy_tasks : alarm.treat_missing_data == "breaching" && alarm.threshold == 1])
    error_message = "That no task is there would go unseen."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.dead_letter : alarm.threshold == 0 && alarm.evaluation_periods == 1]) && length(aws_cloudwatch_metric_alarm.dead_letter) == 3
    error_message = "A dead letter could lie unseen."
  }
}

run "no_error_at_all_is_refused" {
  command = plan

  variables {
    max_error_percent = 0
  }

  expect_failures = [var.max_error_percent]
}

run "no_latency_at_all_is_refused" {
  command = plan

  variables {
    max_latency_seconds = 0
  }

  expect_failures = [var.max_latency_seconds]
}

run "freshness_below_a_second_is_refused" {
  command = plan

  variables {
    max_propagation_seconds = 0.5
  }

  expect_failures = [var.max_propagation_seconds]
}

run "six_topics_are_refused" {
  command = plan

  variables {
    alarm_action_arns = ["1", "2", "3", "4", "5", "6"]
  }

  expect_failures = [var.alarm_action_arns]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
