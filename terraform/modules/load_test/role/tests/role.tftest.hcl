# Plans only, with keys that mean nothing: no call leaves the machine.
provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  name                      = "tagged-config-dev"
  account_id                = "111122223333"
  region                    = "eu-west-1"
  user_pool_arn             = "arn:aws:cognito-idp:eu-west-1:111122223333:userpool/eu-west-1_x"
  table_arn                 = "arn:aws:dynamodb:eu-west-1:111122223333:table/TenantConfigurations"
  parameter_root            = "/tagged-config-dev/config"
  kms_key_arn               = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"
  cloud_map_namespace       = "tagged-config-dev.internal"
  invalidator_log_group_arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/lambda/tagged-config-dev-invalidator"
}

run "role_is_exactly_the_matrix" {
  command = plan

  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.this.json).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resources = sort(flatten([s.Resource])), condition = try(s.Condition, null) }
      }) == jsonencode({
      TestUsers = {
        actions = [
          "cognito-idp:AdminCreateUser", "cognito-idp:AdminDeleteUser", "cognito-idp:AdminInitiateAuth",
          "cognito-idp:AdminSetUserPassword",
        ]
        resources = [var.user_pool_arn]
        condition = null
      }
      TestItems = {
        actions   = ["dynamodb:BatchWriteItem", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"]
        resources = [var.table_arn]
        condition = {
          "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = "TENANT#lt-*" }
          Null                      = { "dynamodb:LeadingKeys" = "false" }
        }
      }
      TestParameters = {
        actions   = ["ssm:DeleteParameter", "ssm:PutParameter"]
        resources = ["arn:aws:ssm:eu-west-1:111122223333:parameter/tagged-config-dev/config/tenants/lt-*"]
        condition = null
      }
      EncryptItems = {
        actions   = ["kms:Decrypt"]
        resources = [var.kms_key_arn]
        condition = { StringEquals = { "kms:ViaService" = "dynamodb.eu-west-1.amazonaws.com" } }
      }
      FindTasks = {
        actions   = ["servicediscovery:DiscoverInstances"]
        resources = ["*"]
        condition = { StringEquals = { "servicediscovery:NamespaceName" = "tagged-config-dev.internal" } }
      }
      Receipts = {
        actions   = ["logs:FilterLogEvents"]
        resources = ["${var.invalidator_log_group_arn}:*"]
        condition = null
      }
    })
    error_message = "The load test's role is not what it was agreed to be: ${data.aws_iam_policy_document.this.json}"
  }
}

run "role_is_for_this_accounts_tasks" {
  command = plan

  assert {
    condition = one(jsondecode(data.aws_iam_policy_document.assume.json).Statement).Condition == {
      StringEquals = { "aws:SourceAccount" = "111122223333" }
      ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:eu-west-1:111122223333:*" }
    }
    error_message = "The role can be assumed on behalf of another account."
  }
}
