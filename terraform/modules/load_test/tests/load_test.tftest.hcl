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
  name                      = "tagged-config-dev"
  account_id                = "111122223333"
  region                    = "eu-west-1"
  image                     = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/tagged-config-dev/loadtest:abc"
  environment               = { TABLE_NAME = "TenantConfigurations" }
  alb                       = { dns_name = "internal-a.eu-west-1.elb.amazonaws.com", zone_id = "Z1" }
  vpc_id                    = "vpc-1"
  log_group_name            = "/tagged-config-dev/load-test"
  execution_role_arn        = "arn:aws:iam::111122223333:role/execution"
  user_pool_arn             = "arn:aws:cognito-idp:eu-west-1:111122223333:userpool/eu-west-1_x"
  table_arn                 = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurations"
  parameter_root            = "/tagged-config-dev/config"
  kms_key_arn               = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"
  cloud_map_namespace       = "tagged-config-dev.internal"
  invalidator_log_group_arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/lambda/tagged-config-dev-invalidator"
}

run "container_is_closed" {
  command = plan

  assert {
    condition = alltrue([
      for c in jsondecode(aws_ecs_task_definition.this.container_definitions) :
      c.readonlyRootFilesystem && !c.privileged && c.user == "65532:65532" && c.linuxParameters.capabilities.drop == ["ALL"]
    ])
    error_message = "The container could write to its root, run as root, or keep a capability."
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.this.container_definitions)).command == ["latency", "--target", "grpc", "--out", "/reports"]
    error_message = "The command is not the agreed one."
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.this.container_definitions)).mountPoints == [{ sourceVolume = "reports", containerPath = "/reports", readOnly = false }]
    error_message = "Reports have nowhere to go."
  }

  assert {
    condition     = one(aws_ecs_task_definition.this.runtime_platform).cpu_architecture == "ARM64" && aws_ecs_task_definition.this.network_mode == "awsvpc"
    error_message = "The task is not an ARM64 task of Fargate."
  }
}

run "targets_are_named" {
  command = plan

  assert {
    condition = { for e in one(jsondecode(aws_ecs_task_definition.this.container_definitions)).environment : e.name => e.value } == {
      ALB_URL    = "http://internal-a.eu-west-1.elb.amazonaws.com"
      AWS_REGION = "eu-west-1"
      TABLE_NAME = "TenantConfigurations"
    }
    error_message = "The load test has no addresses of its targets."
  }

  assert {
    condition     = length(aws_route53_zone.certificate) == 0
    error_message = "A zone is paid for that no program uses."
  }
}

run "the_certificates_name_leads_to_the_load_balancer" {
  command = plan

  variables {
    certificate_name = "config.example.com"
  }

  assert {
    condition     = contains(one(jsondecode(aws_ecs_task_definition.this.container_definitions)).environment, { name = "ALB_URL", value = "https://config.example.com" })
    error_message = "The load test would not verify the certificate's name."
  }

  assert {
    condition = (
      one(aws_route53_zone.certificate[0].vpc).vpc_id == "vpc-1"
      && one(aws_route53_record.certificate[0].alias).name == "internal-a.eu-west-1.elb.amazonaws.com"
      && aws_route53_record.certificate[0].name == "config.example.com"
    )
    error_message = "The name leads elsewhere, or does so outside the VPC."
  }
}

run "a_wildcard_is_no_name" {
  command = plan

  variables {
    certificate_name = "*.example.com"
  }

  expect_failures = [var.certificate_name]
}

run "a_secret_in_the_environment_is_refused" {
  command = plan

  variables {
    environment = { USER_PASSWORD = "hunter2" }
  }

  expect_failures = [var.environment]
}

run "where_secrets_lie_is_none" {
  command = plan

  variables {
    environment = { SECRET_ROOT = "tagged-config-dev/config" }
    secret_root = "tagged-config-dev/config"
  }

  assert {
    condition     = contains([for e in one(jsondecode(aws_ecs_task_definition.this.container_definitions)).environment : e.name], "SECRET_ROOT")
    error_message = "The load test does not know the root of secrets."
  }
}

run "an_untagged_image_is_refused" {
  command = plan

  variables {
    image = "registry:5000/loadtest"
  }

  expect_failures = [var.image]
}

run "a_moving_tag_is_refused" {
  command = plan

  variables {
    image = "loadtest:latest"
  }

  expect_failures = [var.image]
}

run "unknown_architecture_is_refused" {
  command = plan

  variables {
    architecture = "amd64"
  }

  expect_failures = [var.architecture]
}

run "a_size_that_fargate_lacks_is_refused" {
  command = plan

  variables {
    memory_mib = 4096
  }

  expect_failures = [var.memory_mib]
}

run "a_processor_that_fargate_lacks_is_refused" {
  command = plan

  variables {
    cpu = 3000
  }

  expect_failures = [var.cpu]
}

run "root_with_a_trailing_slash_is_refused" {
  command = plan

  variables {
    parameter_root = "/x/"
  }

  expect_failures = [var.parameter_root]
}

run "a_malformed_account_is_refused" {
  command = plan

  variables {
    account_id = "1"
  }

  expect_failures = [var.account_id]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
