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
  journal_table_arn                = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurationsJournal"
  history_table_arn                = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurationsHistory"
  cloud_map_namespace              = "tagged-config"
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
        actions   = ["dynamodb:GetItem", "dynamodb:PartiQLDelete", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate", "dynamodb:Query"]
        resources = [var.table_arn]
      }
      ChangeJournal = {
        actions   = ["dynamodb:PartiQLInsert", "dynamodb:Query"]
        resources = [var.journal_table_arn]
      }
      History = {
        actions   = ["dynamodb:PartiQLInsert", "dynamodb:Query"]
        resources = [var.history_table_arn]
      }
      HistoryByTime = {
        actions   = ["dynamodb:Query"]
        resources = ["arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurationsHistory/index/ByTime"]
      }
      ReadParameters = {
        actions   = ["ssm:GetParameters"]
        resources = ["arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/config/*"]
      }
      ParameterHistory = {
        actions   = ["ssm:GetParameterHistory"]
        resources = ["arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config/config/*"]
      }
      FindTasks            = { actions = ["servicediscovery:DiscoverInstances"], resources = ["*"] }
      DecryptConfiguration = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
    })
    error_message = "config-service's role is not what it was agreed to be: ${data.aws_iam_policy_document.config_service.json}"
  }
}

run "without_an_operators_tenant_nothing_is_scanned" {
  command = plan

  assert {
    condition     = !strcontains(data.aws_iam_policy_document.config_service.json, "Scan")
    error_message = "config-service may scan a table without need."
  }
}

run "with_an_operators_tenant_the_configuration_table_alone_is_scanned" {
  command = plan

  variables {
    table_scan_enabled = true
  }

  assert {
    condition = [
      for s in jsondecode(data.aws_iam_policy_document.config_service.json).Statement : s if strcontains(jsonencode(s.Action), "Scan")
    ] == [{ Sid = "CountInAllTenants", Effect = "Allow", Action = "dynamodb:Scan", Resource = var.table_arn }]
    error_message = "config-service cannot scan the configuration table, or can scan another one: ${data.aws_iam_policy_document.config_service.json}"
  }

  # The schemas of all tenants lie in the partition GLOBAL.
  assert {
    condition = [
      for s in jsondecode(data.aws_iam_policy_document.config_service.json).Statement : s.Sid
      if flatten([s.Resource]) == [var.table_arn] && !can(s.Condition)
    ] == ["TenantConfiguration", "CountInAllTenants"]
    error_message = "A condition keeps config-service from some of the table's partitions."
  }
}

# INSERT fails on an entry that is there. Each other write, a Put too, could replace one.
run "no_role_changes_or_deletes_an_entry_of_the_history" {
  command = plan

  assert {
    condition = toset(flatten([
      for s in concat(
        jsondecode(data.aws_iam_policy_document.config_service.json).Statement,
        jsondecode(data.aws_iam_policy_document.execution.json).Statement,
        jsondecode(data.aws_iam_policy_document.blobs.json).Statement,
        jsondecode(data.aws_iam_policy_document.secrets.json).Statement,
        jsondecode(data.aws_iam_policy_document.keys.json).Statement,
        ) : [for action in flatten([s.Action]) : action if can(regex("^(dynamodb:|\\*)", action))] if anytrue([
          for resource in flatten([s.Resource]) : resource == "*" || startswith(resource, var.history_table_arn) || can(regex("table/.*\\*", resource))
      ])
    ])) == toset(["dynamodb:PartiQLInsert", "dynamodb:Query"])
    error_message = "An entry of the history could be changed, or none could be written."
  }
}

run "config_service_finds_its_own_tasks_only" {
  command = plan

  assert {
    condition = one([
      for s in jsondecode(data.aws_iam_policy_document.config_service.json).Statement : s.Condition if s.Sid == "FindTasks"
    ]) == { StringEquals = { "servicediscovery:NamespaceName" = "tagged-config", "servicediscovery:ServiceName" = "config-service" } }
    error_message = "Other services' instances can be found."
  }
}

run "with_a_bucket_config_service_writes_tenants_blobs_only" {
  command = plan

  variables {
    blob_bucket = "tagged-config-blobs-111122223333-eu-west-1"
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.blobs.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])) }
      }) == jsonencode({
      TenantsBlobs = {
        actions   = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
        resources = ["arn:aws:s3:::tagged-config-blobs-111122223333-eu-west-1/tenants/*"]
      }
      ReadSharedBlobs = {
        actions   = ["s3:GetObject", "s3:GetObjectVersion"]
        resources = ["arn:aws:s3:::tagged-config-blobs-111122223333-eu-west-1/global/*"]
      }
      ListBlobs           = { actions = ["s3:ListBucket"], resources = ["arn:aws:s3:::tagged-config-blobs-111122223333-eu-west-1"] }
      ListVersionsOfBlobs = { actions = ["s3:ListBucketVersions"], resources = ["arn:aws:s3:::tagged-config-blobs-111122223333-eu-west-1"] }
      EncryptBlobs        = { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] }
    })
    error_message = "config-service's role for blobs is not what it was agreed to be: ${data.aws_iam_policy_document.blobs.json}"
  }

  # A read of a missing object is 404 only if the permission to list holds without a prefix.
  assert {
    condition = one([
      for s in jsondecode(data.aws_iam_policy_document.blobs.json).Statement : s.Condition if s.Sid == "ListBlobs"
    ]) == { StringLikeIfExists = { "s3:prefix" = ["tenants/*", "global/*"] } }
    error_message = "A missing object would be a 403, or other objects can be listed."
  }

  assert {
    condition = one([
      for s in jsondecode(data.aws_iam_policy_document.blobs.json).Statement : s.Condition if s.Sid == "ListVersionsOfBlobs"
    ]) == { StringLike = { "s3:prefix" = ["tenants/*", "global/*"] } }
    error_message = "Versions of other objects can be listed."
  }

  assert {
    condition = one([
      for s in jsondecode(data.aws_iam_policy_document.blobs.json).Statement : s.Condition if s.Sid == "EncryptBlobs"
    ]) == { StringEquals = { "kms:ViaService" = "s3.eu-west-1.amazonaws.com" } }
    error_message = "The key can be used around S3."
  }

  assert {
    condition     = length(aws_iam_role_policy.blobs) == 1 && length(aws_iam_role_policy.secrets) == 0
    error_message = "The role has not the one policy."
  }
}

run "with_a_root_config_service_reads_secrets_only" {
  command = plan

  variables {
    secret_root = "tagged-config/config"
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.secrets.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])) }
      }) == jsonencode({
      ReadSecrets = {
        actions = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:ListSecretVersionIds"]
        resources = [
          "arn:aws:secretsmanager:eu-west-1:111122223333:secret:tagged-config/config/global/*",
          "arn:aws:secretsmanager:eu-west-1:111122223333:secret:tagged-config/config/tenants/*",
        ]
      }
      DecryptSecrets = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
    })
    error_message = "config-service's role for secrets is not what it was agreed to be: ${data.aws_iam_policy_document.secrets.json}"
  }

  assert {
    condition = one([
      for s in jsondecode(data.aws_iam_policy_document.secrets.json).Statement : s.Condition if s.Sid == "DecryptSecrets"
    ]) == { StringEquals = { "kms:ViaService" = "secretsmanager.eu-west-1.amazonaws.com" } }
    error_message = "The key can be used around Secrets Manager."
  }

  assert {
    condition     = length(aws_iam_role_policy.secrets) == 1 && length(aws_iam_role_policy.blobs) == 0
    error_message = "The role has not the one policy."
  }
}

run "without_the_optional_tags_nothing_is_allowed" {
  command = plan

  assert {
    condition     = length(aws_iam_role_policy.blobs) == 0 && length(aws_iam_role_policy.secrets) == 0
    error_message = "A role has a permission for a store that there is not."
  }
}

run "a_bucket_with_a_wildcard_is_refused" {
  command = plan

  variables {
    blob_bucket = "tagged-config-*"
  }

  expect_failures = [var.blob_bucket]
}

run "a_root_of_secrets_with_a_leading_slash_is_refused" {
  command = plan

  variables {
    secret_root = "/tagged-config/config"
  }

  expect_failures = [var.secret_root]
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

run "a_group_of_another_port_has_another_name" {
  command = plan

  variables {
    name             = "tagged-config-produ"
    config_http_port = 50000
  }

  assert {
    condition     = aws_lb_target_group.this["config"].name == "tagged-config-produ-config-50000" && length(aws_lb_target_group.this["config"].name) <= 32
    error_message = "A changed port would be refused: the group in use has the name."
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

# A condition of the load balancer takes five values.
run "the_history_with_and_without_the_stage" {
  command = plan

  variables {
    path_prefix = "/live"
  }

  assert {
    condition = toset(one(one(aws_lb_listener_rule.this["history"].condition).path_pattern).values) == toset([
      "/v1/history", "/v1/history:undo", "/live/v1/history", "/live/v1/history:undo",
    ])
    error_message = "The history has other paths, or a wildcard."
  }
}

run "a_prefix_is_one_segment" {
  command = plan

  variables {
    path_prefix = "live/"
  }

  expect_failures = [var.path_prefix]
}

run "execution_role_is_exactly_the_matrix" {
  command = plan

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.execution.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])) }
      }) == jsonencode({
      RegistrySignIn = { actions = ["ecr:GetAuthorizationToken"], resources = ["*"] }
      PullImages = {
        actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        resources = var.image_repository_arns
      }
      WriteLogs = {
        actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        resources = sort([for arn in values(var.log_group_arns) : "${arn}:*"])
      }
      ReadRefreshCredential    = { actions = ["ssm:GetParameters"], resources = [var.refresh_credential_parameter_arn] }
      DecryptRefreshCredential = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
    })
    error_message = "The execution role is not what it was agreed to be: ${data.aws_iam_policy_document.execution.json}"
  }
}

run "keys_are_used_through_their_services_only" {
  command = plan

  assert {
    condition = alltrue([
      for s in concat(
        jsondecode(data.aws_iam_policy_document.execution.json).Statement,
        jsondecode(data.aws_iam_policy_document.config_service.json).Statement,
        jsondecode(data.aws_iam_policy_document.blobs.json).Statement,
        jsondecode(data.aws_iam_policy_document.secrets.json).Statement,
      ) : can(s.Condition.StringEquals["kms:ViaService"]) if contains(flatten([s.Action]), "kms:Decrypt")
    ])
    error_message = "A key can be used around the service whose data it encrypts."
  }
}

run "without_a_bucket_of_keys_order_service_may_nothing" {
  command = plan

  assert {
    condition     = length(aws_iam_role_policy.keys) == 0
    error_message = "A role reads keys from nowhere."
  }

  assert {
    condition     = length(aws_ecs_cluster_capacity_providers.this) == 0 && length(aws_lb.this.access_logs) == 0
    error_message = "Something is on by default that a small target lacks."
  }

  assert {
    condition     = aws_lb_listener.http.protocol == "HTTP" && aws_lb_listener.http.port == 80
    error_message = "The listener is not HTTP on 80 without a certificate."
  }
}

run "paths_without_a_prefix" {
  command = plan

  assert {
    condition = jsonencode({
      for key, rule in aws_lb_listener_rule.this :
      key => sort(flatten([for condition in rule.condition : condition.path_pattern[*].values]))
      }) == jsonencode({
      config           = ["/v1/config", "/v1/config/*"]
      config-batch-get = ["/v1/config:batchGet"]
      health           = ["/v1/health"]
      history          = ["/v1/history", "/v1/history:undo"]
      order            = ["/v1/orders", "/v1/orders/*"]
    })
    error_message = "The rules are not the API's paths."
  }

  assert {
    condition     = aws_lb_listener_rule.this["config-batch-get"].priority < aws_lb_listener_rule.this["config"].priority
    error_message = "The rules are not in their order."
  }
}

run "health_is_read_only" {
  command = plan

  variables {
    path_prefix = "/live"
  }

  assert {
    condition = (
      toset(flatten([for condition in aws_lb_listener_rule.this["health"].condition : condition.http_request_method[*].values])) == toset(["GET"])
      && toset(flatten([for condition in aws_lb_listener_rule.this["health"].condition : condition.path_pattern[*].values])) == toset(["/live/v1/health", "/v1/health"])
    )
    error_message = "More than GET of the one path gets to a task without a token."
  }

  assert {
    condition     = alltrue([for key, rule in aws_lb_listener_rule.this : length(rule.condition) == 1 if key != "health"])
    error_message = "A path of the API is bound to a method."
  }
}

run "an_ending_target_drains_for_less_than_its_task_lives" {
  command = plan

  assert {
    condition     = alltrue([for group in aws_lb_target_group.this : tonumber(group.deregistration_delay) == 30 && group.target_type == "ip"])
    error_message = "A target is drained for longer than a task may take to stop."
  }
}

run "fargate_protection_and_access_logs" {
  command = plan

  variables {
    fargate             = true
    deletion_protection = true
    access_logs_bucket  = "logs"
  }

  assert {
    condition     = aws_ecs_cluster_capacity_providers.this[0].capacity_providers == toset(["FARGATE", "FARGATE_SPOT"])
    error_message = "The cluster lacks a capacity provider."
  }

  assert {
    condition     = one(aws_ecs_cluster.this.setting).value == "enabled"
    error_message = "Container Insights is off."
  }

  assert {
    condition     = aws_lb.this.enable_deletion_protection && aws_lb.this.drop_invalid_header_fields
    error_message = "The load balancer could be deleted, or passes malformed headers on."
  }

  assert {
    condition     = one(aws_lb.this.access_logs).bucket == "logs" && one(aws_lb.this.access_logs).enabled
    error_message = "Access logs go nowhere."
  }
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}

run "a_malformed_account_is_refused" {
  command = plan

  variables {
    account_id = "1"
  }

  expect_failures = [var.account_id]
}

run "one_subnet_is_refused" {
  command = plan

  variables {
    subnet_ids = ["subnet-1"]
  }

  expect_failures = [var.subnet_ids]
}

run "a_health_path_without_a_slash_is_refused" {
  command = plan

  variables {
    health_check_path = "readyz"
  }

  expect_failures = [var.health_check_path]
}

run "a_long_drain_is_refused" {
  command = plan

  variables {
    deregistration_delay_seconds = 3601
  }

  expect_failures = [var.deregistration_delay_seconds]
}

run "a_port_that_does_not_exist_is_refused" {
  command = plan

  variables {
    listener_port = 0
  }

  expect_failures = [var.listener_port]
}

run "a_config_port_that_does_not_exist_is_refused" {
  command = plan

  variables {
    config_http_port = 70000
  }

  expect_failures = [var.config_http_port]
}

run "an_order_port_that_does_not_exist_is_refused" {
  command = plan

  variables {
    order_http_port = 0
  }

  expect_failures = [var.order_http_port]
}

run "a_missing_log_group_is_refused" {
  command = plan

  variables {
    log_group_arns = { config-service = "arn:aws:logs:eu-west-1:111122223333:log-group:/x" }
  }

  expect_failures = [var.log_group_arns]
}

run "no_repository_is_refused" {
  command = plan

  variables {
    image_repository_arns = []
  }

  expect_failures = [var.image_repository_arns]
}

run "root_with_a_trailing_slash_is_refused" {
  command = plan

  variables {
    parameter_root = "/x/"
  }

  expect_failures = [var.parameter_root]
}

run "a_certificate_is_an_arn" {
  command = plan

  variables {
    certificate_arn = "api.example.com"
  }

  expect_failures = [var.certificate_arn]
}

run "keys_are_one_object" {
  command = plan

  variables {
    jwks_object_arn = "arn:aws:s3:::keys/*"
  }

  expect_failures = [var.jwks_object_arn]
}
