# Tables and parameters. No statement reads or writes items of a table, or parameters of tenants.

locals {
  # The history's index is created and changed with its table: no action of a deployment takes an index's ARN.
  table_arns = [for suffix in ["", "Journal", "History"] : "${local.arn.dynamodb}:table/${var.table_name}${suffix}"]

  parameter_arn = "${local.arn.ssm}:parameter${var.parameter_root}"

  data = [
    {
      sid = "Tables"
      actions = [
        "dynamodb:CreateTable",
        "dynamodb:DeleteTable",
        "dynamodb:DescribeContinuousBackups",
        "dynamodb:DescribeTable",
        "dynamodb:DescribeTimeToLive",
        "dynamodb:ListTagsOfResource",
        "dynamodb:TagResource",
        "dynamodb:UntagResource",
        "dynamodb:UpdateContinuousBackups",
        "dynamodb:UpdateTable",
        "dynamodb:UpdateTimeToLive",
      ]
      resources = local.table_arns
    },
    {
      sid = "Parameters"
      actions = [
        "ssm:AddTagsToResource",
        "ssm:DeleteParameter",
        "ssm:GetParameter",
        "ssm:GetParameters",
        "ssm:ListTagsForResource",
        "ssm:PutParameter",
        "ssm:RemoveTagsFromResource",
      ]
      resources = ["${local.parameter_arn}/global/*", "${local.arn.ssm}:parameter/${local.name}/internal/*"]
    },
    # What tenants have there goes with the environment.
    {
      sid       = "RemoveTenantsParameters"
      actions   = ["ssm:DeleteParameters", "ssm:GetParametersByPath"]
      resources = [local.parameter_arn, "${local.parameter_arn}/*"]
    },
    # The refresh credential is drawn by it, and kept nowhere else.
    { sid = "ReadAccountsParameters", actions = ["secretsmanager:GetRandomPassword", "ssm:DescribeParameters"], resources = ["*"] },
  ]
}
