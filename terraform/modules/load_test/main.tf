# A load test inside the VPC, as a task that an operator starts by hand. It finds the tasks through Cloud Map, calls them and
# the load balancer, writes to the stores and waits until the change is visible. Until then nothing runs and nothing costs.

locals {
  # Fargate is not documented to name the region, and the SDK wants one.
  environment = merge(var.environment, {
    ALB_URL    = var.certificate_name == null ? "http://${var.alb.dns_name}" : "https://${var.certificate_name}"
    AWS_REGION = var.region
  })
}

resource "aws_ecs_task_definition" "this" {
  #checkov:skip=CKV_AWS_336:The root is read-only; reports go to a volume of the task.
  family                   = "${var.name}-load-test"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory_mib
  execution_role_arn       = var.execution_role_arn
  task_role_arn            = module.role.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  volume {
    name = "reports"
  }

  container_definitions = jsonencode([{
    name                   = "loadtest"
    image                  = var.image
    essential              = true
    readonlyRootFilesystem = true
    privileged             = false
    user                   = "65532:65532"
    stopTimeout            = 120
    command                = var.command
    environment            = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]
    mountPoints            = [{ sourceVolume = "reports", containerPath = "/reports", readOnly = false }]

    linuxParameters = {
      initProcessEnabled = true
      capabilities       = { add = [], drop = ["ALL"] }
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = var.log_group_name
        awslogs-region        = var.region
        awslogs-stream-prefix = "task"
      }
    }

    portMappings   = []
    systemControls = []
    volumesFrom    = []
  }])
}

module "role" {
  source = "./role"

  name                      = var.name
  account_id                = var.account_id
  region                    = var.region
  user_pool_arn             = var.user_pool_arn
  table_arn                 = var.table_arn
  parameter_root            = var.parameter_root
  blob_bucket               = var.blob_bucket
  secret_root               = var.secret_root
  kms_key_arn               = var.kms_key_arn
  cloud_map_namespace       = var.cloud_map_namespace
  invalidator_log_group_arn = var.invalidator_log_group_arn
  permissions_boundary_arn  = var.permissions_boundary_arn
}
