# What belongs to the whole account in one region and outlives every environment in it: the role with which API Gateway writes
# every REST API's access log, and Parameter Store's throughput. Destroying it removes both for all environments.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

# AWS documents no condition that API Gateway would fulfil here.
data "aws_iam_policy_document" "assume" {
  statement {
    sid     = "ApiGateway"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["apigateway.amazonaws.com"]
    }
  }
}

# Roles are the account's, the setting is the region's: a role for each.
resource "aws_iam_role" "api_gateway" {
  name                 = "${var.name}-api-gateway-logs-${var.region}"
  description          = "API Gateway of this account: writes access logs"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
}

# AWS requires this policy, and it cannot be narrower: every REST API of the account logs with it.
resource "aws_iam_role_policy_attachment" "api_gateway" {
  role       = aws_iam_role.api_gateway.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
}

resource "aws_api_gateway_account" "this" {
  cloudwatch_role_arn = aws_iam_role.api_gateway.arn

  # Without it the account would keep the name of a deleted role. Deprecated: the provider's next major version always resets it.
  reset_on_delete = true

  depends_on = [aws_iam_role_policy_attachment.api_gateway]
}

# 40 reads a second are shared by the whole account; this raises them, at a price for each call (docs/cost.md). The provider
# reads the ARN back: with the path alone every plan would have a change.
resource "aws_ssm_service_setting" "parameter_store_throughput" {
  count = var.parameter_store_high_throughput ? 1 : 0

  setting_id    = "arn:${data.aws_partition.current.partition}:ssm:${var.region}:${data.aws_caller_identity.current.account_id}:servicesetting/ssm/parameter-store/high-throughput-enabled"
  setting_value = "true"
}
