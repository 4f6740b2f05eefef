# Plans only, with keys that mean nothing: no call leaves the machine.
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "111122223333" }
}

variables {
  environment    = "prod"
  table_name     = "TenantConfigurations"
  parameter_root = "/tagged-config-prod/config"
  principal_arns = ["arn:aws:iam::111122223333:role/administrators"]
}

run "fits_into_what_iam_takes" {
  command = plan

  assert {
    condition     = length(output.policies) <= 10
    error_message = "AWS attaches 10 policies to a role at most."
  }

  assert {
    condition     = alltrue([for document in values(output.policies) : length(document) <= 6144])
    error_message = "Too long: ${jsonencode({ for name, document in output.policies : name => length(document) })}."
  }

  assert {
    condition     = alltrue([for document in values(output.policies) : alltrue([for s in jsondecode(document).Statement : s.Sid != ""])])
    error_message = "A statement has no sid."
  }
}

run "asterisk_stands_beside_nothing_that_can_be_bounded" {
  command = plan

  # Writes that know neither resource nor tag, by the Service Authorization Reference.
  assert {
    condition = toset(flatten([
      for document in values(output.policies) : [
        for s in jsondecode(document).Statement : [
          for action in flatten([s.Action]) : action if !can(regex(":(Describe|List|Get)", action))
        ] if s.Effect == "Allow" && contains(flatten([s.Resource]), "*") && !contains(keys(s), "Condition")
      ]
      ])) == toset([
      "ecs:DeregisterTaskDefinition",
      "elasticloadbalancing:SetWebAcl",
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DeleteQueryDefinition",
      "logs:DeleteResourcePolicy",
      "logs:PutQueryDefinition",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
      "route53:CreateHostedZone",
      "sns:Unsubscribe",
    ])
    error_message = "Other writes than these have `*` and no condition."
  }

  assert {
    condition = alltrue(flatten([
      for document in values(output.policies) : [
        for s in jsondecode(document).Statement : [for action in flatten([s.Action]) : s.Effect == "Deny" || !can(regex("^([a-z0-9-]+:)?\\*", action))]
      ]
    ]))
    error_message = "A statement allows all actions of a service."
  }

  # What has an id of AWS's making is bound to the environment's tags, with what is named in main.tf's files as the exceptions.
  assert {
    condition = toset(flatten([
      for document in values(output.policies) : [
        for s in jsondecode(document).Statement : s.Sid if s.Effect == "Allow" && !can(s.Condition) && anytrue([
          for action in flatten([s.Action]) : !can(regex(":(Describe|List|Get|GET$)", action))
          ]) && length([
          for resource in flatten([s.Resource]) : resource if can(regex("^arn:[^:]*:(apigateway|cognito-idp|ec2|kms|lambda|servicediscovery):.*[:/]\\*$", resource)) && !can(regex("tagged-config-prod", resource))
        ]) > 0
      ]
    ])) == toset(["GuardedByWebAcl"])
    error_message = "Something that has an id is not bound to tags."
  }

  assert {
    condition = alltrue(flatten([
      for document in values(output.policies) : [
        for s in jsondecode(document).Statement : [
          for resource in flatten([s.Resource]) : !can(regex("tagged-config", resource)) || can(regex("tagged-config-prod|tagged-config-state-|tagged-config-deployer-prod|tagged-config-api-gateway-logs-us-east-1$", resource))
        ]
      ]
    ]))
    error_message = "The role for prod reaches another environment."
  }
}

run "cannot_become_more" {
  command = plan

  variables {
    permissions_boundary_arn = "arn:aws:iam::111122223333:policy/boundary"
  }

  assert {
    condition     = aws_iam_role.this.permissions_boundary == "arn:aws:iam::111122223333:policy/boundary"
    error_message = "The role is not bounded itself."
  }

  assert {
    condition = alltrue([
      for s in jsondecode(output.policies.identity).Statement : try(s.Condition.ArnEquals["iam:PermissionsBoundary"], "") == "arn:aws:iam::111122223333:policy/boundary"
      if s.Effect == "Allow" && length(setintersection(flatten([s.Action]), [
        "iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy",
      ])) > 0
    ])
    error_message = "What a role may do can be changed without the boundary."
  }

  assert {
    condition = toset(flatten([
      for document in values(output.policies) : [
        for s in jsondecode(document).Statement : [for action in flatten([s.Action]) : action if startswith(action, "iam:") && !can(regex(":(Get|List)", action))] if s.Effect == "Allow"
      ]
      ])) == toset([
      "iam:CreateRole", "iam:CreateServiceLinkedRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:PassRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy",
      "iam:UpdateRole", "iam:UpdateRoleDescription",
    ])
    error_message = "Writes to IAM are others than these."
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(output.policies.identity).Statement : s.Sid => [sort(flatten([s.Action])), sort(flatten([s.Resource]))] if s.Effect == "Deny"
      }) == jsonencode({
      NeverItself = [["iam:*"], ["arn:aws:iam::111122223333:policy/tagged-config-deployer-prod-*", "arn:aws:iam::111122223333:role/tagged-config-deployer-prod"]]
      NeverMore = [
        ["iam:CreateAccessKey", "iam:CreateLoginProfile", "iam:CreatePolicyVersion", "iam:CreateUser", "iam:DeleteRolePermissionsBoundary", "iam:SetDefaultPolicyVersion"],
        ["*"],
      ]
    })
    error_message = "The role may change itself, or take a boundary away."
  }

  assert {
    condition = jsonencode([
      for s in jsondecode(output.policies.identity).Statement : [s.Resource, sort(s.Condition.StringEquals["iam:PassedToService"])] if s.Sid == "PassRoles"
    ]) == jsonencode([["arn:aws:iam::111122223333:role/tagged-config-prod-*", ["ecs-tasks.amazonaws.com", "lambda.amazonaws.com", "vpc-flow-logs.amazonaws.com"]]])
    error_message = "Roles are handed to other services than those."
  }
}

run "trusts_one_branch_and_named_principals_with_a_second_factor" {
  command = plan

  variables {
    github = { repository = "example/tagged-config" }
  }

  assert {
    condition = [
      for s in jsondecode(data.aws_iam_policy_document.trust.json).Statement : [s.Sid, s.Action, s.Principal, s.Condition]
      ] == [
      ["People", "sts:AssumeRole", { AWS = "arn:aws:iam::111122223333:role/administrators" }, { Bool = { "aws:MultiFactorAuthPresent" = "true" } }],
      [
        "GitHubWorkflows", "sts:AssumeRoleWithWebIdentity",
        { Federated = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com" },
        {
          StringEquals = {
            "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
            "token.actions.githubusercontent.com:sub" = "repo:example/tagged-config:ref:refs/heads/main"
          }
        },
      ],
    ]
    error_message = "Others may assume the role."
  }

  assert {
    condition     = aws_iam_role.this.max_session_duration == 3600
    error_message = "A session lasts longer than an hour."
  }
}

run "reads_and_writes_no_value_of_a_tenant" {
  command = plan

  assert {
    condition = toset(flatten([
      for document in values(output.policies) : [
        for s in jsondecode(document).Statement : flatten([s.Action]) if s.Effect == "Allow" && anytrue([
          for resource in flatten([s.Resource]) : can(regex("^arn:aws:s3:::tagged-config-prod-(blobs|\\*).*/", resource))
        ])
      ]
    ])) == toset(["s3:DeleteObject", "s3:DeleteObjectVersion"])
    error_message = "The role reads or writes blobs."
  }

  assert {
    condition = toset(flatten([
      for document in values(output.policies) : [
        for s in jsondecode(document).Statement : [for action in flatten([s.Action]) : action if startswith(action, "secretsmanager:")]
      ]
    ])) == toset(["secretsmanager:GetRandomPassword"])
    error_message = "The role reaches secrets."
  }
}

run "makes_three_tables_and_reads_and_writes_no_item" {
  command = plan

  assert {
    condition = toset(flatten([
      for document in values(output.policies) : [for s in jsondecode(document).Statement : flatten([s.Resource]) if s.Sid == "Tables"]
    ])) == toset([for suffix in ["", "Journal", "History"] : "arn:aws:dynamodb:us-east-1:111122223333:table/TenantConfigurations${suffix}"])
    error_message = "The role makes other tables than the three, or not all of them."
  }

  assert {
    condition = length([
      for action in flatten([for document in values(output.policies) : [for s in jsondecode(document).Statement : flatten([s.Action]) if s.Effect == "Allow"]]) :
      action if can(regex("^dynamodb:(.*Item.*|PartiQL.*|Query|Scan|.*\\*)$", action))
    ]) == 0
    error_message = "The role reads or changes items: an entry of the history could be deleted."
  }
}

run "nobody_may_not_be_all_who_may_assume_it" {
  command = plan

  variables {
    principal_arns = []
  }

  expect_failures = [var.github]
}

run "not_any_repository_or_branch" {
  command = plan

  variables {
    github = { repository = "example/*", branch = "*" }
  }

  expect_failures = [var.github]
}

run "no_session_of_a_day" {
  command = plan

  variables {
    max_session_hours = 12
  }

  expect_failures = [var.max_session_hours]
}

# The role is for what is deployed: the same table and parameters as in the other root's files.
run "names_are_those_of_the_environments" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for env in ["dev", "prod"] : [
        for name in ["environment", "parameter_root", "table_name"] :
        regex("(?m)^${name}\\s*=\\s*(\"[^\"]*\")", file("${env}.tfvars")) == regex("(?m)^${name}\\s*=\\s*(\"[^\"]*\")", file("../aws/${env}.tfvars"))
      ]
    ])) && length(output.policies) > 0
    error_message = "dev.tfvars or prod.tfvars differ from those of terraform/aws."
  }
}
