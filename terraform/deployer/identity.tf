# The user pool; the roles of tasks and functions, and the conditions that keep the deployer from raising its own permissions.

locals {
  role_arns = ["${local.iam_arn}:role/${local.name}-*"]

  # Services that a role may be handed to.
  passed_to = ["ecs-tasks.amazonaws.com", "lambda.amazonaws.com", "vpc-flow-logs.amazonaws.com"]

  # Roles of AWS's own that a service makes in the account at its first use.
  service_linked = [
    "ecs.amazonaws.com", "ecs.application-autoscaling.amazonaws.com", "elasticloadbalancing.amazonaws.com", "ops.apigateway.amazonaws.com",
    "wafv2.amazonaws.com",
  ]
  service_linked_arns = [for service in local.service_linked : "${local.iam_arn}:role/aws-service-role/${service}/*"]

  bounded = [
    for arn in var.permissions_boundary_arn == null ? [] : [var.permissions_boundary_arn] :
    { test = "ArnEquals", variable = "iam:PermissionsBoundary", values = [arn] }
  ]

  identity = [
    { sid = "CreateUserPool", actions = ["cognito-idp:CreateUserPool"], resources = ["*"], conditions = local.tagged },
    {
      sid = "OwnUserPool"
      actions = [
        "cognito-idp:AddCustomAttributes",
        "cognito-idp:AdminCreateUser",
        "cognito-idp:AdminDeleteUser",
        "cognito-idp:AdminInitiateAuth",
        "cognito-idp:AdminSetUserPassword",
        "cognito-idp:CreateUserPoolClient",
        "cognito-idp:CreateUserPoolDomain",
        "cognito-idp:DeleteUserPool",
        "cognito-idp:DeleteUserPoolClient",
        "cognito-idp:DeleteUserPoolDomain",
        "cognito-idp:DescribeUserPoolClient",
        "cognito-idp:ListUsers",
        "cognito-idp:SetUserPoolMfaConfig",
        "cognito-idp:TagResource",
        "cognito-idp:UntagResource",
        "cognito-idp:UpdateUserPool",
        "cognito-idp:UpdateUserPoolClient",
        "cognito-idp:UpdateUserPoolDomain",
      ]
      resources  = ["${local.arn["cognito-idp"]}:userpool/*"]
      conditions = local.owned
    },
    # Cognito requires it for creating a pool with tags.
    {
      sid        = "TagNewUserPool"
      actions    = ["cognito-idp:TagResource"]
      resources  = ["${local.arn["cognito-idp"]}:userpool/*"]
      conditions = concat(local.tagged, [{ test = "Null", variable = "aws:ResourceTag/Project", values = ["true"] }])
    },
    {
      sid = "ReadIdentity"
      actions = [
        "cognito-idp:DescribeUserPool",
        "cognito-idp:DescribeUserPoolDomain",
        "cognito-idp:GetUserPoolMfaConfig",
        "cognito-idp:ListTagsForResource",
        "iam:ListRoles",
      ]
      resources = ["*"]
    },
    {
      sid = "Roles"
      actions = [
        "iam:DeleteRole",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListInstanceProfilesForRole",
        "iam:ListRolePolicies",
        "iam:TagRole",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:UpdateRole",
        "iam:UpdateRoleDescription",
      ]
      resources = local.role_arns
    },
    # With a boundary, none of these without it. Where there is none, a role may be given more than the deployer has.
    {
      sid = "WhatRolesMayDo"
      actions = concat(
        ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy"],
        var.permissions_boundary_arn == null ? [] : ["iam:PutRolePermissionsBoundary"],
      )
      resources  = local.role_arns
      conditions = local.bounded
    },
    {
      sid        = "PassRoles"
      actions    = ["iam:PassRole"]
      resources  = local.role_arns
      conditions = [{ test = "StringEquals", variable = "iam:PassedToService", values = local.passed_to }]
    },
    {
      sid        = "ServiceLinkedRoles"
      actions    = ["iam:CreateServiceLinkedRole"]
      resources  = local.service_linked_arns
      conditions = [{ test = "StringEquals", variable = "iam:AWSServiceName", values = local.service_linked }]
    },
    # Whether they are there, and the one that API Gateway logs with (terraform/account).
    {
      sid       = "ReadRolesOfTheAccount"
      actions   = ["iam:GetRole"]
      resources = concat(local.service_linked_arns, ["${local.iam_arn}:role/tagged-config-api-gateway-logs-${var.region}"])
    },
    {
      sid       = "NeverItself"
      effect    = "Deny"
      actions   = ["iam:*"]
      resources = [local.role_arn, "${local.iam_arn}:policy/${local.role_name}-*"]
    },
    # All other policies that are attached to the role.
    {
      sid    = "NeverMore"
      effect = "Deny"
      actions = [
        "iam:CreateAccessKey",
        "iam:CreateLoginProfile",
        "iam:CreatePolicyVersion",
        "iam:CreateUser",
        "iam:DeleteRolePermissionsBoundary",
        "iam:SetDefaultPolicyVersion",
      ]
      resources = ["*"]
    },
  ]
}
