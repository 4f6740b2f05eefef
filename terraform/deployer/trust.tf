# Who may assume the role: the named principals, with a second factor where `require_mfa` is set, and GitHub's workflows of
# one branch.

locals {
  github_host = "token.actions.githubusercontent.com"
}

data "aws_iam_policy_document" "trust" {
  dynamic "statement" {
    for_each = length(var.principal_arns) == 0 ? [] : [var.principal_arns]

    content {
      sid     = "People"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }

      dynamic "condition" {
        for_each = var.require_mfa ? ["true"] : []

        content {
          test     = "Bool"
          variable = "aws:MultiFactorAuthPresent"
          values   = [condition.value]
        }
      }
    }
  }

  dynamic "statement" {
    for_each = var.github == null ? [] : [var.github]

    content {
      sid     = "GitHubWorkflows"
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = ["${local.iam_arn}:oidc-provider/${local.github_host}"]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.github_host}:aud"
        values   = ["sts.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.github_host}:sub"
        values   = ["repo:${statement.value.repository}:ref:refs/heads/${statement.value.branch}"]
      }
    }
  }
}
