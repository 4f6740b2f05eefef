# The role with which people and CI deploy one environment, and what it may do. One file for each purpose:
#
#   network.tf  VPC, Cloud Map        compute.tf    load balancer, tasks, images    observability.tf  logs, alarms
#   data.tf     table, parameters     functions.tf  functions, rules, queues        operations.tf     buckets, state, redrive
#   keys.tf     encryption keys       identity.tf   user pool, roles                trust.tf          who may assume it
#   edge.tf     API, web ACL
#
# A statement names its resources where they have names of ours. What AWS gives an id is known by its tags: it may be
# created with the environment's tags only, and changed only where it has them. Reads need no tags: a deleted resource has none,
# and Terraform reads until it is gone. `*` stands beside reads, and beside the few writes that know neither resource nor tag
# (tests/deployer.tftest.hcl lists them).

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  name      = var.environment == "local" ? "tagged-config" : "tagged-config-${var.environment}"
  role_name = "tagged-config-deployer-${var.environment}"
  role_arn  = "arn:${local.partition}:iam::${local.account_id}:role/${local.role_name}"

  arn = {
    for service in [
      "application-autoscaling", "cloudwatch", "cognito-idp", "dynamodb", "ec2", "ecr", "ecs", "elasticloadbalancing", "events", "kms",
      "lambda", "logs", "servicediscovery", "sns", "sqs", "ssm", "wafv2",
    ] : service => "arn:${local.partition}:${service}:${var.region}:${local.account_id}"
  }
  iam_arn     = "arn:${local.partition}:iam::${local.account_id}"
  gateway_arn = "arn:${local.partition}:apigateway:${var.region}:"
  bucket_arns = {
    for purpose in ["artifacts", "blobs", "jwks"] : purpose => "arn:${local.partition}:s3:::${local.name}-${purpose}-${local.account_id}-${var.region}"
  }

  tags = {
    Project     = "tagged-config"
    Environment = var.environment
  }

  # What a statement is bound to: tags that a resource has, tags that it is created with.
  owned  = [for name, value in local.tags : { test = "StringEquals", variable = "aws:ResourceTag/${name}", values = [value] }]
  tagged = [for name, value in local.tags : { test = "StringEquals", variable = "aws:RequestTag/${name}", values = [value] }]

  policies = {
    compute       = local.compute
    data          = concat(local.data, local.keys)
    edge          = local.edge
    functions     = local.functions
    identity      = local.identity
    network       = local.network
    observability = local.observability
    operations    = local.operations
  }
}

data "aws_iam_policy_document" "this" {
  for_each = local.policies

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.value.sid
      effect    = try(statement.value.effect, "Allow")
      actions   = statement.value.actions
      resources = statement.value.resources

      dynamic "condition" {
        for_each = try(statement.value.conditions, [])

        content {
          test     = condition.value.test
          variable = condition.value.variable
          values   = condition.value.values
        }
      }
    }
  }
}

resource "aws_iam_policy" "this" {
  for_each = local.policies

  name        = "${local.role_name}-${each.key}"
  description = "Deployment of ${local.name}: ${each.key}"
  policy      = data.aws_iam_policy_document.this[each.key].minified_json
}

resource "aws_iam_role" "this" {
  name                 = local.role_name
  description          = "Deploys ${local.name}"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  max_session_duration = var.max_session_hours * 3600
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = aws_iam_policy.this

  role       = aws_iam_role.this.name
  policy_arn = each.value.arn
}
