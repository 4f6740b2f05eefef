# A load test inside the VPC, as a task that somebody starts by hand: it finds the tasks through Cloud Map, calls them and
# the load balancer, and writes to the stores what it then waits to see. Nothing runs, and nothing costs, until then.

data "aws_partition" "current" {}

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
  task_role_arn            = aws_iam_role.this.arn

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

data "aws_iam_policy_document" "assume" {
  statement {
    sid     = "TasksOfThisAccount"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${data.aws_partition.current.partition}:ecs:${var.region}:${var.account_id}:*"]
    }
  }
}

resource "aws_iam_role" "this" {
  name               = "${var.name}-load-test"
  description        = "What the load test may do"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

data "aws_iam_policy_document" "this" {
  # Users of any tenant: a password sign-in by an administrator cannot be bounded further. Hence never in prod.
  statement {
    sid = "TestUsers"
    actions = [
      "cognito-idp:AdminCreateUser",
      "cognito-idp:AdminDeleteUser",
      "cognito-idp:AdminInitiateAuth",
      "cognito-idp:AdminSetUserPassword",
    ]
    resources = [var.user_pool_arn]
  }

  # Only items of tenants that the load test itself made, and of its own list of them: their ids begin so.
  statement {
    sid = "TestItems"
    actions = [
      "dynamodb:BatchWriteItem",
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
    ]
    resources = [var.table_arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["TENANT#lt-*"]
    }

    # ForAllValues holds of a call without the key.
    condition {
      test     = "Null"
      variable = "dynamodb:LeadingKeys"
      values   = ["false"]
    }
  }

  statement {
    sid       = "TestParameters"
    actions   = ["ssm:DeleteParameter", "ssm:PutParameter"]
    resources = ["arn:${data.aws_partition.current.partition}:ssm:${var.region}:${var.account_id}:parameter${var.parameter_root}/tenants/lt-*"]
  }

  statement {
    sid       = "EncryptItems"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["dynamodb.${var.region}.amazonaws.com"]
    }
  }

  # Reads only; the action knows no resource.
  statement {
    sid       = "FindTasks"
    actions   = ["servicediscovery:DiscoverInstances"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "servicediscovery:NamespaceName"
      values   = [var.cloud_map_namespace]
    }
  }

  statement {
    sid       = "Receipts"
    actions   = ["logs:FilterLogEvents"]
    resources = ["${var.invalidator_log_group_arn}:*"]
  }
}

resource "aws_iam_role_policy" "this" {
  name   = "load-test"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.this.json
}
