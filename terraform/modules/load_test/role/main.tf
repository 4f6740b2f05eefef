# What the load test may do: users, items and parameters of the tenants that it makes (`lt-*`), and no others. Their blobs and secrets
# are in tags.tf.

data "aws_partition" "current" {}

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
  name                 = "${var.name}-load-test"
  description          = "What the load test may do"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
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
      "dynamodb:GetItem",
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
