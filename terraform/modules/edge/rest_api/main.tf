# A regional REST API, made from one OpenAPI document (openapi.yaml.tftpl). Its Cognito authorizer admits ID tokens of
# one client. The services verify the token again: this check saves load, it decides no tenant.

locals {
  # What API Gateway answers itself, as problem+json (RFC 9457). Without a status: a whole class.
  problems = {
    ACCESS_DENIED                = { status = 403, title = "Forbidden" }
    AUTHORIZER_FAILURE           = { status = 503, title = "The token could not be checked" }
    BAD_REQUEST_BODY             = { status = 400, title = "Bad Request" }
    EXPIRED_TOKEN                = { status = 401, title = "A valid token is needed" }
    INTEGRATION_FAILURE          = { status = 502, title = "The service could not be reached" }
    INTEGRATION_TIMEOUT          = { status = 504, title = "The service did not answer in time" }
    MISSING_AUTHENTICATION_TOKEN = { status = 404, title = "No such path" }
    REQUEST_TOO_LARGE            = { status = 413, title = "The request is too large" }
    RESOURCE_NOT_FOUND           = { status = 404, title = "No such path" }
    THROTTLED                    = { status = 429, title = "Too many requests" }
    UNAUTHORIZED                 = { status = 401, title = "A valid token is needed" }
    UNSUPPORTED_MEDIA_TYPE       = { status = 415, title = "Unsupported Media Type" }
    WAF_FILTERED                 = { status = 403, title = "Forbidden" }
    DEFAULT_4XX                  = { status = null, title = "The request was refused" }
    DEFAULT_5XX                  = { status = null, title = "The request failed" }
  }

  # For pages of other origins. What the edge answers itself holds nothing of a tenant, and a fixed header can name one
  # origin or all.
  cors_headers = length(var.allowed_origins) == 0 ? {} : {
    "gatewayresponse.header.Access-Control-Allow-Origin"   = length(var.allowed_origins) == 1 ? "'${var.allowed_origins[0]}'" : "'*'"
    "gatewayresponse.header.Access-Control-Expose-Headers" = "'Retry-After,WWW-Authenticate'"
  }

  gateway_responses = {
    for kind, problem in local.problems : kind => merge(
      problem.status == null ? {} : { statusCode = problem.status },
      {
        responseParameters = merge(
          { "gatewayresponse.header.Content-Type" = "'application/problem+json'" },
          problem.status == 401 ? { "gatewayresponse.header.WWW-Authenticate" = "'Bearer'" } : {},
          problem.status == 429 ? { "gatewayresponse.header.Retry-After" = "'1'" } : {},
          local.cors_headers,
        )
        responseTemplates = {
          "application/json" = jsonencode(merge(
            { type = "about:blank", title = problem.title },
            problem.status == null ? {} : { status = problem.status },
          ))
        }
      },
    )
  }

  body = jsonencode(yamldecode(templatefile("${path.module}/openapi.yaml.tftpl", {
    name              = var.name
    user_pool_arn     = var.user_pool_arn
    client_id         = var.client_id
    vpc_link_id       = var.vpc_link_id
    alb_arn           = var.alb_arn
    alb_url           = var.alb_url
    preflights        = length(var.allowed_origins) > 0
    gateway_responses = jsonencode(local.gateway_responses)
  })))
}

resource "aws_api_gateway_rest_api" "this" {
  name        = var.name
  description = "Tagged Config: public API"
  body        = local.body

  # The document describes the whole API: a put removes what is not in it. A warning of the importer fails the apply
  # (scripts/openapi_import.py knows its rules).
  put_rest_api_mode = "overwrite"
  fail_on_warnings  = true

  endpoint_configuration {
    types = ["REGIONAL"]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_deployment" "this" {
  rest_api_id = aws_api_gateway_rest_api.this.id
  description = "Made by Terraform from the OpenAPI document"

  triggers = {
    body = sha256(local.body)
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_stage" "this" {
  #checkov:skip=CKV_AWS_120:No cache at the edge: answers belong to a tenant, and freshness is the point of the service.
  #checkov:skip=CKV2_AWS_51:Callers prove themselves by token; the backend is reached by VPC link only.
  #checkov:skip=CKV2_AWS_4:Execution logs would hold headers and bodies, tokens among them; the access log is on.
  #checkov:skip=CKV2_AWS_29:The web ACL is associated in the module above (edge), which takes this stage's ARN.
  rest_api_id          = aws_api_gateway_rest_api.this.id
  deployment_id        = aws_api_gateway_deployment.this.id
  stage_name           = var.stage_name
  description          = "The only stage"
  xray_tracing_enabled = var.tracing

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
        resource          = "$context.resourcePath"
        status            = "$context.status"
        bytes             = "$context.responseLength"
        latencyMs         = "$context.responseLatency"
        integrationMs     = "$context.integration.latency"
        integrationStatus = "$context.integration.status"
        authorizerError   = "$context.authorizer.error"
        errorType         = "$context.error.responseType"
        wafResponseCode   = "$context.wafResponseCode"
        "user.id"         = "$context.authorizer.claims.sub"
        traceId           = "$context.xrayTraceId"
      })
    }
  }
}

resource "aws_api_gateway_method_settings" "all" {
  #checkov:skip=CKV_AWS_225:No cache at the edge: answers belong to a tenant.
  #checkov:skip=CKV_AWS_308:There is no cache to encrypt.
  rest_api_id = aws_api_gateway_rest_api.this.id
  stage_name  = aws_api_gateway_stage.this.stage_name
  method_path = "*/*"

  settings {
    metrics_enabled        = true
    logging_level          = "OFF"
    data_trace_enabled     = false
    caching_enabled        = false
    throttling_rate_limit  = var.requests_per_second
    throttling_burst_limit = var.burst
  }
}
