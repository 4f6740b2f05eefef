# The role of the invalidator.

data "aws_iam_policy_document" "assume" {
  statement {
    sid     = "Lambda"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "invalidator" {
  name                 = var.function_name
  description          = "What the invalidator may do"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
}

data "aws_iam_policy_document" "invalidator" {
  #checkov:skip=CKV_AWS_111:The one named exception: network interfaces of a function in a VPC know no resource; the code itself is denied them below.
  statement {
    sid       = "ReadStream"
    actions   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
    resources = [var.table_stream_arn]
  }

  # Reads only, and the action knows no resource. Lambda requires it to map a stream.
  statement {
    sid       = "ListStreams"
    actions   = ["dynamodb:ListStreams"]
    resources = ["*"]
  }

  # Never what a value is, and no reading: tasks do that.
  statement {
    sid       = "AppendToJournal"
    actions   = ["dynamodb:PutItem"]
    resources = [var.journal_table_arn]
  }

  # Append-only: INSERT fails where an item has the key already, and PutItem would replace it.
  statement {
    sid       = "AppendToHistory"
    actions   = ["dynamodb:PartiQLInsert", "dynamodb:Query"]
    resources = [var.history_table_arn]
  }

  statement {
    sid       = "ReadParameters"
    actions   = ["ssm:GetParameters"]
    resources = ["${local.parameter_arn_prefix}${var.parameter_root}/*"]
  }

  # With a version too: whether a selector is a part of the ARN is not documented.
  statement {
    sid     = "ReadRefreshCredential"
    actions = ["ssm:GetParameter"]
    resources = [
      "${local.parameter_arn_prefix}${var.refresh_credential_parameter}",
      "${local.parameter_arn_prefix}${var.refresh_credential_parameter}:*",
    ]
  }

  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["dynamodb.${var.region}.amazonaws.com", "ssm.${var.region}.amazonaws.com"]
    }
  }

  # Reads only. The action knows no resource, but these two conditions.
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
    sid       = "DeadLetters"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arns["function"], local.queue_arns["stream"]]
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${var.log_group_arn}:*"]
  }

  # The one named exception to "no `*` beside a write action": Lambda creates the function's network interfaces
  # with the function's role, before any of them has an ARN.
  statement {
    sid = "NetworkInterfacesOfLambda"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
    ]
    resources = ["*"]
  }

  # ... and the exception is for the Lambda service alone: the code itself is refused.
  statement {
    sid    = "NoNetworkInterfacesByTheCode"
    effect = "Deny"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
    ]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "lambda:SourceFunctionArn"
      values   = [local.function_arn]
    }
  }
}

resource "aws_iam_role_policy" "invalidator" {
  name   = "invalidator"
  role   = aws_iam_role.invalidator.id
  policy = data.aws_iam_policy_document.invalidator.json
}
