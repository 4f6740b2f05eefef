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
  name                    = "tagged-config-dev"
  region                  = "eu-west-1"
  program                 = "config-service"
  image                   = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/tagged-config-dev/config-service:abc"
  ports                   = { http = 8080, grpc = 50051, refresh = 50052 }
  environment             = { TAGGED_CONFIG_TABLE = "T" }
  secrets                 = { TAGGED_CONFIG_REFRESH_CREDENTIAL = "arn:aws:ssm:eu-west-1:111122223333:parameter/x/credential" }
  log_group_name          = "/tagged-config-dev/config-service"
  execution_role_arn      = "arn:aws:iam::111122223333:role/execution"
  task_role_arn           = "arn:aws:iam::111122223333:role/task"
  cluster_arn             = "arn:aws:ecs:eu-west-1:111122223333:cluster/c"
  cluster_name            = "c"
  subnet_ids              = ["subnet-1", "subnet-2"]
  security_group_id       = "sg-1"
  target_group_arn        = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/t/1"
  target_group_arn_suffix = "targetgroup/t/1"
  alb_arn_suffix          = "app/a/1"
  discovery_service_arn   = "arn:aws:servicediscovery:eu-west-1:111122223333:service/srv-1"
  spot_percent            = 50
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
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command == ["CMD", "/app/config-service", "--healthcheck"]
    error_message = "The health check needs a shell."
  }

  assert {
    condition = (
      [for s in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].secrets : s.valueFrom] == [var.secrets["TAGGED_CONFIG_REFRESH_CREDENTIAL"]]
      && !contains([for e in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : e.name], "TAGGED_CONFIG_REFRESH_CREDENTIAL")
    )
    error_message = "A secret is not given by ARN."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout == 60
    error_message = "A task would be killed while it drains."
  }
}

run "rollout_never_goes_below_what_serves" {
  command = plan

  assert {
    condition = (
      aws_ecs_service.this.deployment_minimum_healthy_percent == 100
      && one(aws_ecs_service.this.deployment_circuit_breaker).enable
      && one(aws_ecs_service.this.deployment_circuit_breaker).rollback
    )
    error_message = "A deployment could take tasks away before new ones serve, or not roll back."
  }

  assert {
    condition = {
      for s in aws_ecs_service.this.capacity_provider_strategy : s.capacity_provider => s.weight
    } == { FARGATE = 50, FARGATE_SPOT = 50 }
    error_message = "Spot is not weighted as asked."
  }

  assert {
    condition     = !one(aws_ecs_service.this.network_configuration).assign_public_ip
    error_message = "Tasks have public addresses."
  }
}

run "scales_by_cpu_and_requests" {
  command = plan

  assert {
    condition     = one(one(aws_appautoscaling_policy.requests[0].target_tracking_scaling_policy_configuration).predefined_metric_specification).resource_label == "app/a/1/targetgroup/t/1"
    error_message = "Requests are not counted for each target."
  }
}

run "a_secret_itself_is_refused" {
  command = plan

  variables {
    secrets = { X = "hunter2" }
  }

  expect_failures = [var.secrets]
}

run "all_spot_is_refused" {
  command = plan

  variables {
    spot_percent = 100
  }

  expect_failures = [var.spot_percent]
}

run "unknown_architecture_is_refused" {
  command = plan

  variables {
    architecture = "arm64"
  }

  expect_failures = [var.architecture]
}
