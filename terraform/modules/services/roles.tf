# Two kinds of role. The execution role starts a task (image, secrets, logs); a task role is what the code in it may
# do. config-service: its table, the change journal and its parameters; with an optional tag, what blobs.tf or secrets.tf says.
# order-service: none of these, it calls config-service.

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
  # TransactWriteItems is no action of IAM: its updates and deletions are. No Scan, no PartiQL, and nothing that no path calls.
  statement {
    sid = "TenantConfiguration"
    actions = [
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
    ]
    resources = [var.table_arn]
  }

  # A write leaves its entry in the same transaction, authorized by PutItem; sweeps query.
  statement {
    sid       = "ChangeJournal"
    actions   = ["dynamodb:PutItem", "dynamodb:Query"]
    resources = [var.journal_table_arn]
  }

  statement {
    sid       = "ReadParameters"
    actions   = ["ssm:GetParameters"]
    resources = [local.parameters_arn]
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
