# Encryption keys. Their ARNs hold ids, so the statements name them by their tags.

locals {
  keys = [
    {
      sid       = "ReadKeys"
      actions   = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListAliases", "kms:ListResourceTags"]
      resources = ["*"]
    },
    { sid = "CreateKey", actions = ["kms:CreateKey"], resources = ["*"], conditions = local.tagged },
    # Also needed to create a key with tags and a policy. Not for a key that has an owner's tag already.
    {
      sid        = "TagNewKey"
      actions    = ["kms:PutKeyPolicy", "kms:TagResource"]
      resources  = ["${local.arn.kms}:key/*"]
      conditions = concat(local.tagged, [{ test = "Null", variable = "aws:ResourceTag/Project", values = ["true"] }])
    },
    {
      sid = "OwnKeys"
      actions = [
        "kms:CreateAlias",
        "kms:DeleteAlias",
        "kms:EnableKeyRotation",
        "kms:PutKeyPolicy",
        "kms:ScheduleKeyDeletion",
        "kms:TagResource",
        "kms:UntagResource",
        "kms:UpdateAlias",
        "kms:UpdateKeyDescription",
      ]
      resources  = ["${local.arn.kms}:key/*"]
      conditions = local.owned
    },
    {
      sid       = "KeyAliases"
      actions   = ["kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"]
      resources = ["${local.arn.kms}:alias/${local.name}", "${local.arn.kms}:alias/${local.name}-*"]
    },
    # DynamoDB and Parameter Store use a key in the name of who creates the table, or writes the parameter.
    {
      sid       = "UseKeysThroughServices"
      actions   = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      resources = ["${local.arn.kms}:key/*"]
      conditions = concat(local.owned, [
        {
          test     = "StringEquals"
          variable = "kms:ViaService"
          values   = ["dynamodb.${var.region}.amazonaws.com", "ssm.${var.region}.amazonaws.com"]
        },
      ])
    },
    {
      sid        = "GrantKeysToServices"
      actions    = ["kms:CreateGrant"]
      resources  = ["${local.arn.kms}:key/*"]
      conditions = concat(local.owned, [{ test = "Bool", variable = "kms:GrantIsForAWSResource", values = ["true"] }])
    },
  ]
}
