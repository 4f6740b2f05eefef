# Two kinds of role. The execution role starts a task (image, secrets, logs); a task role is what the code in it may
# do. config-service: its table, the change journal, the history and its parameters, and to find its other tasks; with an
# optional tag, what blobs.tf or secrets.tf says. order-service: none of these, it calls config-service.

data "aws_partition" "current" {}

locals {
  task_roles = toset(["config-service", "order-service"])

  parameters_arn = "arn:${data.aws_partition.current.partition}:ssm:${var.region}:${var.account_id}:parameter${var.parameter_root}/*"
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

# === execution role ===

resource "aws_iam_role" "execution" {
  name                 = "${var.name}-execution"
  description          = "Starts tasks: pulls images, reads their secrets, opens their log streams"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
}

data "aws_iam_policy_document" "execution" {
  # This action knows no resource; the token it returns opens only what the next statement allows.
  statement {
    sid       = "RegistrySignIn"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullImages"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.image_repository_arns
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for arn in values(var.log_group_arns) : "${arn}:*"]
  }

  statement {
    sid       = "ReadRefreshCredential"
    actions   = ["ssm:GetParameters"]
    resources = [var.refresh_credential_parameter_arn]
  }

  statement {
    sid       = "DecryptRefreshCredential"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["ssm.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "start-tasks"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# === task roles ===

resource "aws_iam_role" "task" {
  for_each = local.task_roles

  name                 = "${var.name}-${each.key}"
  description          = "What the code of ${each.key} may do"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
}

data "aws_iam_policy_document" "config_service" {
  # ExecuteTransaction is no action of IAM: AWS authorizes it statement by statement. No condition on leading keys: a task writes
  # the items of every tenant, and the schemas of all tenants (GLOBAL). The code keeps tenants apart (ADR 1).
  statement {
    sid = "TenantConfiguration"
    actions = [
      "dynamodb:GetItem",
      "dynamodb:PartiQLDelete",
      "dynamodb:PartiQLInsert",
      "dynamodb:PartiQLUpdate",
      "dynamodb:Query",
    ]
    resources = [var.table_arn]
  }

  # Only with an operators' tenant. A dry run of a schema of all tenants counts the values that would break it, and a Query cannot
  # span tenants. The role can read each of these items by Query as well. It cannot scan the journal or the history.
  dynamic "statement" {
    for_each = var.table_scan_enabled ? [1] : []

    content {
      sid       = "CountInAllTenants"
      actions   = ["dynamodb:Scan"]
      resources = [var.table_arn]
    }
  }

  # A write inserts its entry in the same transaction; sweeps query.
  statement {
    sid       = "ChangeJournal"
    actions   = ["dynamodb:PartiQLInsert", "dynamodb:Query"]
    resources = [var.journal_table_arn]
  }

  # Append-only. INSERT fails where an item has the key already; PutItem would replace it, and no condition of IAM can demand
  # that a call has a condition of its own. No role has another write on this table.
  statement {
    sid       = "History"
    actions   = ["dynamodb:PartiQLInsert", "dynamodb:Query"]
    resources = [var.history_table_arn]
  }

  statement {
    sid       = "HistoryByTime"
    actions   = ["dynamodb:Query"]
    resources = ["${var.history_table_arn}/index/ByTime"]
  }

  statement {
    sid       = "ReadParameters"
    actions   = ["ssm:GetParameters"]
    resources = [local.parameters_arn]
  }

  # Parameter Store keeps a parameter's last 100 versions, and who wrote them.
  statement {
    sid       = "ParameterHistory"
    actions   = ["ssm:GetParameterHistory"]
    resources = [local.parameters_arn]
  }

  # A write can wait until every task has it. Reads only. The action knows no resource, but these two conditions.
  statement {
    sid       = "FindTasks"
    actions   = ["servicediscovery:DiscoverInstances"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "servicediscovery:NamespaceName"
      values   = [var.cloud_map_namespace]
    }

    condition {
      test     = "StringEquals"
      variable = "servicediscovery:ServiceName"
      values   = [var.cloud_map_service]
    }
  }

  statement {
    sid       = "DecryptConfiguration"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["dynamodb.${var.region}.amazonaws.com", "ssm.${var.region}.amazonaws.com"]
    }
  }
}

# Public keys, but not every network has a way to them. order-service has no other permission.
data "aws_iam_policy_document" "keys" {
  statement {
    sid       = "ReadSigningKeys"
    actions   = ["s3:GetObject"]
    resources = [coalesce(var.jwks_object_arn, "none")]
  }
}

resource "aws_iam_role_policy" "keys" {
  for_each = var.jwks_object_arn == null ? toset([]) : local.task_roles

  name   = "signing-keys"
  role   = aws_iam_role.task[each.key].id
  policy = data.aws_iam_policy_document.keys.json
}

resource "aws_iam_role_policy" "config_service" {
  name   = "configuration"
  role   = aws_iam_role.task["config-service"].id
  policy = data.aws_iam_policy_document.config_service.json
}
