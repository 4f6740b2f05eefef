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
  name                 = "tagged-config"
  user_pool_arn        = "arn:aws:cognito-idp:eu-west-1:111122223333:userpool/eu-west-1_x"
  client_id            = "client"
  vpc_link_id          = "link"
  alb_arn              = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/app/a/1"
  alb_url              = "http://internal-a.eu-west-1.elb.amazonaws.com"
  access_log_group_arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/tagged-config/api"
}

run "every_path_but_health_wants_an_id_token_of_the_client" {
  command = plan

  assert {
    condition = {
      for path, methods in jsondecode(aws_api_gateway_rest_api.this.body).paths :
      path => { for method, operation in methods : method => jsonencode(try(operation.security, null)) }
      } == {
      "/v1/config"          = { x-amazon-apigateway-any-method = "[{\"cognito\":[]}]" }
      "/v1/config/{proxy+}" = { x-amazon-apigateway-any-method = "[{\"cognito\":[]}]" }
      "/v1/config:batchGet" = { post = "[{\"cognito\":[]}]" }
      "/v1/health"          = { get = "null" }
      "/v1/history"         = { get = "[{\"cognito\":[]}]" }
      "/v1/history:undo"    = { post = "[{\"cognito\":[]}]" }
      "/v1/orders"          = { x-amazon-apigateway-any-method = "[{\"cognito\":[]}]" }
      "/v1/orders/{proxy+}" = { x-amazon-apigateway-any-method = "[{\"cognito\":[]}]" }
    }
    error_message = "A path of the API needs no token, or the API has a path that the contract does not."
  }

  assert {
    condition = (
      jsondecode(aws_api_gateway_rest_api.this.body).components.securitySchemes.cognito.x-amazon-apigateway-authorizer.providerARNs == [var.user_pool_arn] && jsondecode(aws_api_gateway_rest_api.this.body).components.securitySchemes.cognito.x-amazon-apigateway-authorizer.identityValidationExpression == "^client$"
    )
    error_message = "Tokens of another pool or client are admitted."
  }
}

run "everything_goes_to_the_load_balancer_by_the_link" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for path, methods in jsondecode(aws_api_gateway_rest_api.this.body).paths : [
        for method, operation in methods :
        operation.x-amazon-apigateway-integration.connectionType == "VPC_LINK" && operation.x-amazon-apigateway-integration.connectionId == "link" && operation.x-amazon-apigateway-integration.integrationTarget == var.alb_arn && operation.x-amazon-apigateway-integration.uri == "${var.alb_url}${replace(path, "{proxy+}", "{proxy}")}" && operation.x-amazon-apigateway-integration.httpMethod == { post = "POST", get = "GET", x-amazon-apigateway-any-method = "ANY" }[method]
      ]
    ]))
    error_message = "A request goes elsewhere."
  }
}

run "bodies_query_and_headers_pass_unchanged" {
  command = plan

  assert {
    condition     = jsondecode(aws_api_gateway_rest_api.this.body).x-amazon-apigateway-binary-media-types == ["*/*"]
    error_message = "A body that is no text would be changed on its way."
  }

  # A proxy integration hands on every query argument and header, but with a mapping of one.
  assert {
    condition = alltrue(flatten([
      for path, methods in jsondecode(aws_api_gateway_rest_api.this.body).paths : [
        for operation in values(methods) :
        operation.x-amazon-apigateway-integration.type == "http_proxy"
        && length(setsubtract(keys(try(operation.x-amazon-apigateway-integration.requestParameters, {})), ["integration.request.path.proxy"])) == 0
        && !can(operation.x-amazon-apigateway-integration.contentHandling)
      ]
    ]))
    error_message = "A query argument, a header or a body does not get to the services as it is."
  }
}

run "the_importer_warns_of_nothing" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for methods in values(jsondecode(aws_api_gateway_rest_api.this.body).paths) : [
        for operation in values(methods) : !contains(keys(operation.responses), "default")
      ]
    ]))
    error_message = "API Gateway answers a default response with a warning, and a warning fails the import."
  }
}

run "errors_of_the_edge_are_problems" {
  command = plan

  assert {
    condition = alltrue([
      for response in values(jsondecode(aws_api_gateway_rest_api.this.body).x-amazon-apigateway-gateway-responses) :
      response.responseParameters["gatewayresponse.header.Content-Type"] == "'application/problem+json'" && jsondecode(response.responseTemplates["application/json"]).type == "about:blank"
    ])
    error_message = "An error of the edge is not problem+json."
  }
}

run "stage_is_logged_traced_and_throttled" {
  command = plan

  assert {
    condition     = !can(regex("(?i)authorization|querystring|body", one(aws_api_gateway_stage.this.access_log_settings).format))
    error_message = "The access log holds a token, a query or a body."
  }

  assert {
    condition     = !can(regex("\\$context[A-Za-z0-9.]*[\\[:]", one(aws_api_gateway_stage.this.access_log_settings).format))
    error_message = "The access log names a variable in a form that is known to mapping templates only."
  }

  assert {
    condition     = aws_api_gateway_stage.this.xray_tracing_enabled && aws_api_gateway_stage.this.stage_name == "live" && output.path_prefix == "/live"
    error_message = "The stage is not traced, or not named as the services expect."
  }

  assert {
    condition = (
      one(aws_api_gateway_method_settings.all.settings).throttling_rate_limit == 2000 && !one(aws_api_gateway_method_settings.all.settings).data_trace_enabled
    )
    error_message = "All callers together are not throttled, or bodies are logged."
  }
}

run "no_log_without_a_group" {
  command = plan

  variables {
    access_log_group_arn = null
  }

  assert {
    condition     = length(aws_api_gateway_stage.this.access_log_settings) == 0
    error_message = "A log goes nowhere."
  }
}

run "a_url_with_a_path_is_refused" {
  command = plan

  variables {
    alb_url = "http://alb/"
  }

  expect_failures = [var.alb_url]
}

run "a_stage_of_two_segments_is_refused" {
  command = plan

  variables {
    stage_name = "a/b"
  }

  expect_failures = [var.stage_name]
}

run "no_request_at_all_is_refused" {
  command = plan

  variables {
    requests_per_second = 0
  }

  expect_failures = [var.requests_per_second]
}

run "a_burst_beyond_the_accounts_is_refused" {
  command = plan

  variables {
    burst = 5001
  }

  expect_failures = [var.burst]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}

run "no_page_of_another_origin_may_call_by_default" {
  command = plan

  assert {
    condition = !strcontains(jsonencode(local.gateway_responses), "Access-Control") && alltrue([
      for methods in values(jsondecode(aws_api_gateway_rest_api.this.body).paths) : !contains(keys(methods), "options")
    ])
    error_message = "Browsers let pages of other origins call."
  }
}

run "preflights_of_allowed_origins_want_no_token" {
  command = plan

  variables {
    allowed_origins = ["https://app.example.com"]
  }

  assert {
    condition = alltrue([
      for path, methods in jsondecode(aws_api_gateway_rest_api.this.body).paths :
      !can(methods.options.security) && methods.options.x-amazon-apigateway-integration.httpMethod == "OPTIONS" && methods.options.x-amazon-apigateway-integration.uri == "${var.alb_url}${replace(path, "{proxy+}", "{proxy}")}"
      if path != "/v1/health"
    ])
    error_message = "A preflight is refused, or does not get to the service."
  }

  assert {
    condition = alltrue([
      for path, methods in jsondecode(aws_api_gateway_rest_api.this.body).paths :
      try(methods.x-amazon-apigateway-any-method.security, methods.get.security, methods.post.security, null) == [{ cognito = [] }]
      if path != "/v1/health"
    ])
    error_message = "With preflights, a path wants no token any more."
  }

  assert {
    condition = alltrue([
      for response in values(jsondecode(aws_api_gateway_rest_api.this.body).x-amazon-apigateway-gateway-responses) :
      response.responseParameters["gatewayresponse.header.Access-Control-Allow-Origin"] == "'https://app.example.com'" && strcontains(response.responseParameters["gatewayresponse.header.Access-Control-Expose-Headers"], "Retry-After")
    ])
    error_message = "A page cannot read an error of the edge."
  }
}

run "of_several_origins_every_one_can_read_the_edges_errors" {
  command = plan

  variables {
    allowed_origins = ["https://a.example.com", "https://b.example.com"]
  }

  assert {
    condition     = local.gateway_responses.UNAUTHORIZED.responseParameters["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"
    error_message = "A fixed header names one origin: the pages of the others could not read a 401."
  }
}

run "an_origin_with_a_path_is_refused" {
  command = plan

  variables {
    allowed_origins = ["https://app.example.com/"]
  }

  expect_failures = [var.allowed_origins]
}
