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
  name     = "tagged-config"
  issuer   = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x"
  audience = "client"
  integration = {
    connection_type = "VPC_LINK"
    connection_id   = "link"
    uri             = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:listener/app/a/1/2"
  }
}

run "every_route_but_health_wants_a_token" {
  command = plan

  assert {
    condition = alltrue([for route in aws_apigatewayv2_route.this : route.authorization_type == "JWT"]) && toset(keys(aws_apigatewayv2_route.this)) == toset([
      "ANY /v1/config", "ANY /v1/config/{proxy+}", "POST /v1/config:batchGet", "GET /v1/history", "POST /v1/history:undo",
      "ANY /v1/orders", "ANY /v1/orders/{proxy+}",
    ])
    error_message = "A route wants no token, or the routes are not the contract's."
  }

  assert {
    condition     = aws_apigatewayv2_route.health.route_key == "GET /v1/health" && aws_apigatewayv2_route.health.authorization_type == "NONE"
    error_message = "More than GET of the one path is open."
  }

  assert {
    condition = (
      one(aws_apigatewayv2_authorizer.jwt.jwt_configuration).issuer == var.issuer
      && one(aws_apigatewayv2_authorizer.jwt.jwt_configuration).audience == toset(["client"])
    )
    error_message = "Tokens of another pool or client are admitted."
  }
}

run "the_clients_address_is_not_the_clients_choice" {
  command = plan

  assert {
    condition     = aws_apigatewayv2_integration.load_balancer.request_parameters == tomap({ "overwrite:header.X-Client-Ip" = "$context.identity.sourceIp" })
    error_message = "The web ACL behind would count by what a client claims."
  }

  assert {
    condition     = output.client_ip_header == "X-Client-Ip"
    error_message = "The web ACL reads another header."
  }
}

run "private_and_unlimited_by_default" {
  command = plan

  assert {
    condition = (
      aws_apigatewayv2_integration.load_balancer.connection_type == "VPC_LINK"
      && length(aws_apigatewayv2_integration.load_balancer.tls_config) == 0
      && length(aws_apigatewayv2_stage.default.access_log_settings) == 0
    )
    error_message = "An optional feature is on that no variable enables."
  }
}

run "name_in_the_certificate_log_and_throttle" {
  command = plan

  assert {
    condition     = !can(regex("\\$context[A-Za-z0-9.]*[\\[:]", one(aws_apigatewayv2_stage.default.access_log_settings).format))
    error_message = "The access log names a variable in a form that is known to mapping templates only."
  }

  variables {
    integration = {
      connection_type = "VPC_LINK"
      connection_id   = "link"
      uri             = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:listener/app/a/1/2"
      tls_server_name = "config.example.com"
    }
    access_log_group_arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/tagged-config/api"
    throttle             = { requests_per_second = 10, burst = 5 }
  }

  assert {
    condition     = one(aws_apigatewayv2_integration.load_balancer.tls_config).server_name_to_verify == "config.example.com"
    error_message = "The load balancer's name is not verified."
  }

  assert {
    condition     = !can(regex("(?i)authorization|querystring|body", one(aws_apigatewayv2_stage.default.access_log_settings).format))
    error_message = "The access log holds a token, a query or a body."
  }

  assert {
    condition     = one(aws_apigatewayv2_stage.default.default_route_settings).throttling_rate_limit == 10
    error_message = "All callers together are not throttled."
  }
}

run "a_plaintext_issuer_is_refused" {
  command = plan

  variables {
    issuer = "http://issuer"
  }

  expect_failures = [var.issuer]
}

run "an_unknown_connection_is_refused" {
  command = plan

  variables {
    integration = { connection_type = "TUNNEL", uri = "x" }
  }

  expect_failures = [var.integration]
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "Tagged"
  }

  expect_failures = [var.name]
}

run "no_page_of_another_origin_may_call_by_default" {
  command = plan

  assert {
    condition     = length(aws_apigatewayv2_api.this.cors_configuration) == 0
    error_message = "Browsers let pages of other origins call."
  }
}

run "pages_of_allowed_origins_may_call" {
  command = plan

  variables {
    allowed_origins = ["https://app.example.com", "http://localhost:5173"]
  }

  assert {
    condition     = toset(one(aws_apigatewayv2_api.this.cors_configuration).allow_origins) == toset(["https://app.example.com", "http://localhost:5173"])
    error_message = "Other origins are let in, or fewer."
  }

  assert {
    condition     = length(setsubtract(["authorization", "if-match", "if-none-match", "if-range", "range", "x-change-note"], one(aws_apigatewayv2_api.this.cors_configuration).allow_headers)) == 0
    error_message = "A page could send no token, no condition, no range or no note."
  }

  assert {
    condition     = length(setsubtract(["accept-ranges", "content-range", "etag", "retry-after", "x-config-invalid-new-version", "x-config-version", "x-request-id"], one(aws_apigatewayv2_api.this.cors_configuration).expose_headers)) == 0
    error_message = "A page could not read what it needs for a conditional write, or for the rest of a blob."
  }
}

run "an_origin_with_a_path_is_refused" {
  command = plan

  variables {
    allowed_origins = ["https://app.example.com/"]
  }

  expect_failures = [var.allowed_origins]
}
