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
  name = "tagged-config"
  log_group_names = {
    config-service = "/tagged-config/config-service"
    order-service  = "/tagged-config/order-service"
    invalidator    = "/aws/lambda/tagged-config-invalidator"
    jwks-mirror    = "/aws/lambda/tagged-config-jwks-mirror"
    api            = "/tagged-config/api"
    waf            = "aws-waf-logs-tagged-config"
  }
}

run "queries_ask_the_groups_that_have_the_answer" {
  command = plan

  assert {
    condition     = aws_cloudwatch_query_definition.this["laggards"].log_group_names == tolist(["/aws/lambda/tagged-config-invalidator"])
    error_message = "Receipts are the invalidator's."
  }

  assert {
    condition     = alltrue([for key, query in aws_cloudwatch_query_definition.this : query.name == "tagged-config/${key}" && length(query.log_group_names) > 0])
    error_message = "A query is outside the environment's folder, or reads no log group."
  }

  assert {
    condition = alltrue([
      for key in ["errors", "errors-by-message", "slow-requests", "slow-fanouts", "propagation", "laggards", "refused-tokens", "changes", "blocked-requests"] :
      contains(keys(aws_cloudwatch_query_definition.this), key)
    ])
    error_message = "A question is missing."
  }

  # An alias is what `sort` can name; `count` alone is a function.
  assert {
    condition     = alltrue([for query in aws_cloudwatch_query_definition.this : !can(regex("sort count ", query.query_string))])
    error_message = "A query sorts by a column that it has not."
  }
}

run "a_missing_group_is_refused" {
  command = plan

  variables {
    log_group_names = { api = "/x" }
  }

  expect_failures = [var.log_group_names]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
