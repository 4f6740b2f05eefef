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

run "a_new_share_of_spot_does_not_replace_the_service" {
  command = plan

  assert {
    condition     = aws_ecs_service.this.force_new_deployment && length(aws_ecs_service.this.capacity_provider_strategy) == 2
    error_message = "A change of the capacity provider strategy would replace the service."
  }

  assert {
    condition     = contains(jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment, { name = "AWS_REGION", value = "eu-west-1" })
    error_message = "The program has no region in its environment."
  }
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
    error_message = "Spot does not have the configured weight."
  }

  assert {
    condition     = aws_ecs_service.this.deployment_maximum_percent == 200 && !aws_ecs_service.this.enable_execute_command && aws_ecs_service.this.availability_zone_rebalancing == "ENABLED"
    error_message = "New tasks could not start beside the old ones, ECS Exec is on, or zones are not balanced."
  }

  assert {
    condition     = one([for s in aws_ecs_service.this.capacity_provider_strategy : s.base if s.capacity_provider == "FARGATE"]) == 1
    error_message = "The first task could be on Spot."
  }

  assert {
    condition = (
      one(aws_ecs_service.this.load_balancer).container_port == 8080
      && one(aws_ecs_service.this.load_balancer).target_group_arn == var.target_group_arn
      && one(aws_ecs_service.this.service_registries).registry_arn == var.discovery_service_arn
    )
    error_message = "Tasks are not found, or the load balancer reaches another port than REST's."
  }

  assert {
    condition     = !one(aws_ecs_service.this.network_configuration).assign_public_ip
    error_message = "Tasks have public addresses."
  }
}

run "a_rollback_finds_the_revision_before" {
  command = plan

  assert {
    condition     = aws_ecs_task_definition.this.skip_destroy
    error_message = "A deployment would deregister the revision that the circuit breaker goes back to."
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

run "task_is_what_fargate_starts" {
  command = plan

  assert {
    condition = (
      aws_ecs_task_definition.this.family == "tagged-config-dev-config-service"
      && aws_ecs_task_definition.this.network_mode == "awsvpc"
      && aws_ecs_task_definition.this.requires_compatibilities == toset(["FARGATE"])
      && one(aws_ecs_task_definition.this.runtime_platform).cpu_architecture == "ARM64"
    )
    error_message = "The task definition is not one of Fargate on ARM64."
  }

  assert {
    condition     = aws_ecs_task_definition.this.execution_role_arn != aws_ecs_task_definition.this.task_role_arn
    error_message = "The code has the role that starts it."
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.this.container_definitions)).logConfiguration.options["mode"] == "non-blocking"
    error_message = "A log that cannot be written stops requests."
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.this.container_definitions)).linuxParameters.initProcessEnabled
    error_message = "Signals may not reach the program."
  }
}

run "a_rotation_is_a_new_revision" {
  command = plan

  variables {
    secrets_generation = 7
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.this.container_definitions)).dockerLabels["tagged-config.secrets-generation"] == "7"
    error_message = "Tasks would keep the credential of before a rotation."
  }
}

run "without_spot_and_scaling" {
  command = plan

  variables {
    spot_percent        = 0
    autoscaling_enabled = false
  }

  assert {
    condition     = one(aws_ecs_service.this.capacity_provider_strategy).capacity_provider == "FARGATE"
    error_message = "Tasks run on Spot that were not to."
  }

  assert {
    condition     = length(aws_appautoscaling_target.this) == 0 && length(aws_appautoscaling_policy.cpu) == 0 && length(aws_appautoscaling_policy.requests) == 0
    error_message = "The number of tasks follows the load without autoscaling_enabled."
  }
}

run "scales_between_its_bounds" {
  command = plan

  variables {
    min_tasks = 3
    max_tasks = 7
  }

  assert {
    condition     = aws_appautoscaling_target.this[0].min_capacity == 3 && aws_appautoscaling_target.this[0].max_capacity == 7 && aws_ecs_service.this.desired_count == 3
    error_message = "The number of tasks leaves its bounds."
  }

  assert {
    condition     = one(one(aws_appautoscaling_policy.cpu[0].target_tracking_scaling_policy_configuration).predefined_metric_specification).predefined_metric_type == "ECSServiceAverageCPUUtilization"
    error_message = "Processor use is not followed."
  }
}

run "order_service_checks_itself" {
  command = plan

  variables {
    program = "order-service"
    ports   = { http = 8090 }
    secrets = {}
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.this.container_definitions)).healthCheck.command == ["CMD", "/app/order-service", "--healthcheck"]
    error_message = "The health check is another program's."
  }
}

run "a_secret_in_the_environment_is_refused" {
  command = plan

  variables {
    environment = { TAGGED_CONFIG_REFRESH_CREDENTIAL = "hunter2" }
  }

  expect_failures = [var.environment]
}

run "where_secrets_lie_is_none" {
  command = plan

  variables {
    environment = { TAGGED_CONFIG_SECRET_ROOT = "tagged-config-dev/config" }
  }

  assert {
    condition     = contains([for e in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : e.name], "TAGGED_CONFIG_SECRET_ROOT")
    error_message = "The program does not know the root of secrets."
  }
}

run "an_untagged_image_is_refused" {
  command = plan

  variables {
    image = "registry:5000/config-service"
  }

  expect_failures = [var.image]
}

run "a_moving_tag_is_refused" {
  command = plan

  variables {
    image = "config-service:latest"
  }

  expect_failures = [var.image]
}

run "a_size_that_fargate_lacks_is_refused" {
  command = plan

  variables {
    memory_mib = 8192
  }

  expect_failures = [var.memory_mib]
}

run "a_processor_that_fargate_lacks_is_refused" {
  command = plan

  variables {
    cpu = 300
  }

  expect_failures = [var.cpu]
}

run "a_program_behind_no_port_is_refused" {
  command = plan

  variables {
    ports = { grpc = 50051 }
  }

  expect_failures = [var.ports]
}

run "a_port_that_takes_root_is_refused" {
  command = plan

  variables {
    ports = { http = 80 }
  }

  expect_failures = [var.ports]
}

run "one_subnet_is_refused" {
  command = plan

  variables {
    subnet_ids = ["subnet-1"]
  }

  expect_failures = [var.subnet_ids]
}

run "half_a_generation_is_refused" {
  command = plan

  variables {
    secrets_generation = 1.5
  }

  expect_failures = [var.secrets_generation]
}

run "no_task_at_all_is_refused" {
  command = plan

  variables {
    min_tasks = 0
  }

  expect_failures = [var.min_tasks]
}

run "fewer_at_most_than_at_least_is_refused" {
  command = plan

  variables {
    max_tasks = 1
  }

  expect_failures = [var.max_tasks]
}

run "a_stop_shorter_than_the_drain_is_refused" {
  command = plan

  variables {
    stop_timeout_seconds = 30
  }

  expect_failures = [var.stop_timeout_seconds]
}

run "a_stop_longer_than_fargate_has_is_refused" {
  command = plan

  variables {
    stop_timeout_seconds = 121
  }

  expect_failures = [var.stop_timeout_seconds]
}

run "a_full_processor_is_no_aim" {
  command = plan

  variables {
    target_cpu_percent = 95
  }

  expect_failures = [var.target_cpu_percent]
}

run "few_requests_are_no_aim" {
  command = plan

  variables {
    target_requests_per_minute = 10
  }

  expect_failures = [var.target_requests_per_minute]
}

run "a_malformed_program_is_refused" {
  command = plan

  variables {
    program = "Config Service"
  }

  expect_failures = [var.program]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
