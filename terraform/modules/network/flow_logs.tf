# The VPC's flow log: connections, accepted and rejected.

data "aws_iam_policy_document" "flow_log_assume" {
  statement {
    sid     = "FlowLogs"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }

    dynamic "condition" {
      for_each = var.flow_log_group_arn == null ? [] : [split(":", var.flow_log_group_arn)[4]]

      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }
  }
}

data "aws_iam_policy_document" "flow_log" {
  statement {
    sid       = "WriteFlowLog"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${coalesce(var.flow_log_group_arn, "none")}:*"]
  }
}

resource "aws_iam_role" "flow_log" {
  count = var.flow_log_group_arn == null ? 0 : 1

  name                 = "${var.name}-flow-log"
  description          = "Writes the VPC's flow log"
  assume_role_policy   = data.aws_iam_policy_document.flow_log_assume.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "flow_log" {
  count = var.flow_log_group_arn == null ? 0 : 1

  name   = "flow-log"
  role   = aws_iam_role.flow_log[0].id
  policy = data.aws_iam_policy_document.flow_log.json
}

resource "aws_flow_log" "this" {
  count = var.flow_log_group_arn == null ? 0 : 1

  vpc_id                   = aws_vpc.this.id
  traffic_type             = "ALL"
  log_destination_type     = "cloud-watch-logs"
  log_destination          = var.flow_log_group_arn
  iam_role_arn             = aws_iam_role.flow_log[0].arn
  max_aggregation_interval = 600

  tags = { Name = var.name }
}
