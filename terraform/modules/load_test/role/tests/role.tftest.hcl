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

run "optional_tags_are_left_out" {
  command = plan

  assert {
    condition     = length(aws_iam_role_policy.blobs) == 0 && length(aws_iam_role_policy.secrets) == 0
    error_message = "The load test may use stores that the deployment has not."
  }
}

run "blobs_and_secrets_of_its_own_tenants" {
  command = plan

  variables {
    blob_bucket = "tagged-config-dev-blobs-111122223333-eu-west-1"
    secret_root = "tagged-config-dev/config"
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(aws_iam_role_policy.blobs[0].policy).Statement :
      s.Sid => { actions = sort(flatten([s.Action])), resource = s.Resource, condition = try(s.Condition, null) }
      }) == jsonencode({
      TestBlobs = {
        actions   = ["s3:DeleteObject", "s3:PutObject"]
        resource  = "arn:aws:s3:::tagged-config-dev-blobs-111122223333-eu-west-1/tenants/lt-*"
        condition = null
      }
      EncryptBlobs = {
        actions   = ["kms:GenerateDataKey"]
        resource  = var.kms_key_arn
        condition = { StringEquals = { "kms:ViaService" = "s3.eu-west-1.amazonaws.com" } }
      }
    })
    error_message = "The load test may do more with blobs than it was agreed: ${aws_iam_role_policy.blobs[0].policy}"
  }

  assert {
    condition = one(jsondecode(aws_iam_role_policy.secrets[0].policy).Statement) == {
      Sid      = "TestSecrets"
      Effect   = "Allow"
      Action   = ["secretsmanager:DeleteSecret", "secretsmanager:CreateSecret"]
      Resource = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:tagged-config-dev/config/tenants/lt-*"
    }
    error_message = "The load test may do more with secrets than it was agreed: ${aws_iam_role_policy.secrets[0].policy}"
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
