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
  name                             = "tagged-config"
  account_id                       = "111122223333"
  region                           = "eu-west-1"
  vpc_id                           = "vpc-1"
  subnet_ids                       = ["subnet-1", "subnet-2"]
  alb_security_group_id            = "sg-1"
  config_http_port                 = 8080
  order_http_port                  = 8081
  table_arn                        = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurations"
  parameter_root                   = "/tagged-config/config"
  refresh_credential_parameter_arn = "arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/internal/refresh-credential"
  kms_key_arn                      = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"
  image_repository_arns            = ["arn:aws:ecr:eu-west-1:111122223333:repository/tagged-config/*"]
  log_group_arns = {
    config-service = "arn:aws:logs:eu-west-1:111122223333:log-group:/tagged-config/config-service"
    order-service  = "arn:aws:logs:eu-west-1:111122223333:log-group:/tagged-config/order-service"
  }
}

run "config_service_is_exactly_the_matrix" {
  command = plan

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.config_service.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])) }
      }) == jsonencode({
      TenantConfiguration = {
        actions = [
          "dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem",
          "dynamodb:Query", "dynamodb:UpdateItem",
        ]
        resources = [var.table_arn]
      }
      ReadParameters = {
        actions   = ["ssm:GetParameters"]
        resources = ["arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/config/*"]
      }
      DecryptConfiguration = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
    })
    error_message = "config-service's role is not what it was agreed to be: ${data.aws_iam_policy_document.config_service.json}"
  }
}

# That order-service's role has no policy is for a reader of roles.tf: a test cannot see what is not there.
run "one_task_role_per_service" {
  command = plan

  assert {
    condition     = toset(keys(aws_iam_role.task)) == toset(["config-service", "order-service"])
    error_message = "The task roles are not the agreed two."
  }
}

run "roles_are_for_this_accounts_tasks" {
  command = plan

  assert {
    condition = one(jsondecode(data.aws_iam_policy_document.assume.json).Statement).Condition == {
      StringEquals = { "aws:SourceAccount" = "111122223333" }
      ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:eu-west-1:111122223333:*" }
    }
    error_message = "The roles can be assumed on behalf of another account."
  }
}

run "execution_role_has_one_star_and_it_reads" {
  command = plan

  assert {
    condition = [
      for s in jsondecode(data.aws_iam_policy_document.execution.json).Statement : flatten([s.Action])
      if contains(flatten([s.Resource]), "*")
    ] == [["ecr:GetAuthorizationToken"]]
    error_message = "Only the registry sign-in may name every resource."
  }
}

run "only_rest_is_routed" {
  command = plan

  assert {
    condition     = toset([for group in aws_lb_target_group.this : group.port]) == toset([8080, 8081])
    error_message = "A port beside the two REST ports is behind the load balancer."
  }

  assert {
    condition     = aws_lb.this.internal
    error_message = "The load balancer faces the internet."
  }

  assert {
    condition     = one(one(aws_lb_listener.http.default_action).fixed_response).status_code == "404"
    error_message = "What no rule names must be a 404 of the load balancer."
  }
}

run "stage_prefix_and_keys" {
  command = plan

  variables {
    path_prefix     = "/live"
    jwks_object_arn = "arn:aws:s3:::keys/jwks.json"
    certificate_arn = "arn:aws:acm:eu-west-1:111122223333:certificate/1"
  }

  assert {
    condition = toset(one(one(aws_lb_listener_rule.this["config"].condition).path_pattern).values) == toset([
      "/v1/config", "/v1/config/*", "/live/v1/config", "/live/v1/config/*",
    ])
    error_message = "The rules do not match paths with and without the stage."
  }

  assert {
    condition = jsondecode(data.aws_iam_policy_document.keys.json).Statement == [{
      Sid = "ReadSigningKeys", Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::keys/jwks.json"
    }]
    error_message = "Tasks may read more than the keys' object."
  }

  assert {
    condition     = aws_lb_listener.http.protocol == "HTTPS" && aws_lb_listener.http.ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    error_message = "A certificate does not make the listener HTTPS."
  }
}

run "a_prefix_is_one_segment" {
  command = plan

  variables {
    path_prefix = "live/"
  }

  expect_failures = [var.path_prefix]
}
