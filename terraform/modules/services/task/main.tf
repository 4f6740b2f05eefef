# One program as an ECS service on Fargate: its task definition, how it is rolled out, how it scales (scaling.tf).
#
# A deployment starts new tasks beside the old ones, and ends an old one only when a new one is healthy. An ending task
# gets SIGTERM while the load balancer still drains it: it serves on for `drain_delay`, then finishes what runs,
# within `stop_timeout_seconds`. Failing tasks trip the circuit breaker, which rolls back.

locals {
  # Fargate is not documented to name the region, and the SDK wants one.
  environment = merge(var.environment, { AWS_REGION = var.region })

  spot_weight = var.spot_percent
  base_weight = 100 - var.spot_percent
}

resource "aws_ecs_task_definition" "this" {
  family                   = "${var.name}-${var.program}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory_mib
  execution_role_arn       = var.execution_role_arn
  task_role_arn            = var.task_role_arn

  # A rollback goes to the revision before: ECS takes no deregistered one. `make destroy` deregisters them all.
  skip_destroy = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  container_definitions = jsonencode([{
    name                   = var.program
    image                  = var.image
    essential              = true
    readonlyRootFilesystem = true
    privileged             = false
    user                   = "65532:65532"
    stopTimeout            = var.stop_timeout_seconds

    linuxParameters = {
      initProcessEnabled = true
      capabilities       = { add = [], drop = ["ALL"] }
    }

    portMappings = [for port in sort(keys(var.ports)) : { name = port, containerPort = var.ports[port], hostPort = var.ports[port], protocol = "tcp" }]

    environment = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]
    secrets     = [for name in sort(keys(var.secrets)) : { name = name, valueFrom = var.secrets[name] }]

    # The program checks itself: the image has no shell.
    healthCheck = {
      command     = ["CMD", "/app/${var.program}", "--healthcheck"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 15
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = var.log_group_name
        awslogs-region        = var.region
        awslogs-stream-prefix = "task"
        # A log that cannot be written must not stop a request.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }

    # A new generation of a secret is a new revision, hence a rollout.
    dockerLabels = { "tagged-config.secrets-generation" = tostring(var.secrets_generation) }

    systemControls = []
    mountPoints    = []
    volumesFrom    = []
  }])
}

resource "aws_ecs_service" "this" {
  name                   = var.program
  cluster                = var.cluster_arn
  task_definition        = aws_ecs_task_definition.this.arn
  desired_count          = var.min_tasks
  platform_version       = "1.4.0"
  enable_execute_command = false
  propagate_tags         = "SERVICE"
  wait_for_steady_state  = var.wait_for_steady_state

  enable_ecs_managed_tags            = true
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  # After a zone has been away, tasks are spread over all zones again.
  availability_zone_rebalancing = "ENABLED"

  # Else a new share of Spot would replace the service, with no task meanwhile. It is part of an update that happens anyway,
  # and never the reason for one.
  force_new_deployment = true

  # The first task is never on Spot.
  capacity_provider_strategy {
    capacity_provider = "FARGATE"
    base              = 1
    weight            = local.base_weight
  }

  dynamic "capacity_provider_strategy" {
    for_each = local.spot_weight > 0 ? [local.spot_weight] : []

    content {
      capacity_provider = "FARGATE_SPOT"
      weight            = capacity_provider_strategy.value
    }
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [var.security_group_id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = var.target_group_arn
    container_name   = var.program
    container_port   = var.ports["http"]
  }

  service_registries {
    registry_arn = var.discovery_service_arn
  }

  lifecycle {
    # Scaling changes it after the start, or an operator by hand.
    ignore_changes = [desired_count]
  }
}
