# An HTTP API whose JWT authorizer refuses callers without a valid token before they reach the VPC. The services verify the
# token again: this check saves load and decides no tenant.

locals {
  client_ip_header = "X-Client-Ip"

  routes = toset([
    "ANY /v1/config",
    "ANY /v1/config/{proxy+}",
    "POST /v1/config:batchGet",
    "GET /v1/history",
    "POST /v1/history:undo",
    "ANY /v1/orders",
    "ANY /v1/orders/{proxy+}",
  ])
}

resource "aws_apigatewayv2_api" "this" {
  name          = var.name
  description   = "Tagged Config: public API"
  protocol_type = "HTTP"

  # API Gateway answers preflights itself then, and sets these headers on every answer, its own errors included; those of
  # the services it drops.
  dynamic "cors_configuration" {
    for_each = length(var.allowed_origins) == 0 ? [] : [var.allowed_origins]

    content {
      allow_origins = cors_configuration.value
      allow_methods = ["DELETE", "GET", "POST", "PUT"]
      allow_headers = ["authorization", "content-type", "if-match", "if-none-match", "if-range", "range", "x-change-note", "x-request-id"]
      expose_headers = [
        "accept-ranges", "age", "content-range", "etag", "retry-after", "www-authenticate", "x-config-age-ms", "x-config-cache",
        "x-config-invalid-new-version", "x-config-journal-bound-ms", "x-config-origin", "x-config-served-by", "x-config-source",
        "x-config-staleness-bound-ms", "x-config-version", "x-request-id",
      ]
      max_age = 600
    }
  }
}

resource "aws_apigatewayv2_authorizer" "jwt" {
  api_id           = aws_apigatewayv2_api.this.id
  name             = "${var.name}-jwt"
  authorizer_type  = "JWT"
  identity_sources = ["$request.header.Authorization"]

  jwt_configuration {
    issuer   = var.issuer
    audience = [var.audience]
  }

  # AWS has none for a JWT authorizer and refuses one that is set; emulators report a default.
  lifecycle {
    ignore_changes = [authorizer_payload_format_version]
  }
}

# One integration for all routes: method, path, query, headers (Authorization too) and body go through unchanged,
# and the load balancer's rules select the service. One header is added, for the web ACL behind: unlike the first
# address of X-Forwarded-For it is not what a client claims.
resource "aws_apigatewayv2_integration" "load_balancer" {
  api_id                 = aws_apigatewayv2_api.this.id
  description            = "Internal load balancer"
  integration_type       = "HTTP_PROXY"
  integration_method     = "ANY"
  integration_uri        = var.integration.uri
  connection_type        = var.integration.connection_type
  connection_id          = var.integration.connection_id
  payload_format_version = "1.0"
  timeout_milliseconds   = 29000
  request_parameters     = { "overwrite:header.${local.client_ip_header}" = "$context.identity.sourceIp" }

  dynamic "tls_config" {
    for_each = var.integration.tls_server_name == null ? [] : [var.integration.tls_server_name]

    content {
      server_name_to_verify = tls_config.value
    }
  }
}

resource "aws_apigatewayv2_route" "this" {
  for_each = local.routes

  api_id             = aws_apigatewayv2_api.this.id
  route_key          = each.key
  target             = "integrations/${aws_apigatewayv2_integration.load_balancer.id}"
  authorization_type = "JWT"
  authorizer_id      = aws_apigatewayv2_authorizer.jwt.id
}

# Shows, without a user, that requests get to a task and back.
resource "aws_apigatewayv2_route" "health" {
  #checkov:skip=CKV_AWS_309:On purpose without a token: this one path says that the service is there, and nothing else.
  api_id             = aws_apigatewayv2_api.this.id
  route_key          = "GET /v1/health"
  target             = "integrations/${aws_apigatewayv2_integration.load_balancer.id}"
  authorization_type = "NONE"
}

resource "aws_apigatewayv2_stage" "default" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true

  dynamic "access_log_settings" {
    for_each = var.access_log_group_arn == null ? [] : [var.access_log_group_arn]

    # Neither token nor query nor body. The user and not the tenant: a log takes claims by a name after a dot, and the tenant's
    # has a colon.
    content {
      destination_arn = access_log_settings.value
      format = jsonencode({
        time              = "$context.requestTime"
        "request.id"      = "$context.requestId"
        ip                = "$context.identity.sourceIp"
        method            = "$context.httpMethod"
        resource          = "$context.routeKey"
        status            = "$context.status"
        bytes             = "$context.responseLength"
        latencyMs         = "$context.responseLatency"
        integrationMs     = "$context.integrationLatency"
        integrationStatus = "$context.integrationStatus"
        authorizerError   = "$context.authorizer.error"
        errorType         = "$context.error.responseType"
        "user.id"         = "$context.authorizer.claims.sub"
      })
    }
  }

  dynamic "default_route_settings" {
    for_each = var.throttle == null ? [] : [var.throttle]

    content {
      detailed_metrics_enabled = true
      throttling_rate_limit    = default_route_settings.value.requests_per_second
      throttling_burst_limit   = default_route_settings.value.burst
    }
  }
}
