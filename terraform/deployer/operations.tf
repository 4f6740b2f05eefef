# What the deployment tool does besides Terraform: buckets, the state, dead letters, what is left, what the account allows.

locals {
  state_bucket_arn = "arn:${local.partition}:s3:::tagged-config-state-${local.account_id}-${var.region}"
  state_keys       = ["${var.environment}/terraform.tfstate", "${var.environment}/terraform.tfstate.tflock"]

  operations = [
    # Buckets for the functions' code, for the copy of the signing keys, and for blobs.
    {
      sid = "Buckets"
      actions = [
        "s3:CreateBucket",
        "s3:DeleteBucket",
        "s3:DeleteBucketPolicy",
        "s3:GetAccelerateConfiguration",
        "s3:GetBucketAcl",
        "s3:GetBucketCORS",
        "s3:GetBucketLogging",
        "s3:GetBucketNotification",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketOwnershipControls",
        "s3:GetBucketPolicy",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketRequestPayment",
        "s3:GetBucketTagging",
        "s3:GetBucketVersioning",
        "s3:GetBucketWebsite",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:GetReplicationConfiguration",
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:PutBucketNotification",
        "s3:PutBucketOwnershipControls",
        "s3:PutBucketPolicy",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutBucketTagging",
        "s3:PutBucketVersioning",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
      ]
      resources = values(local.bucket_arns)
    },
    {
      sid       = "BucketObjects"
      actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
      resources = ["${local.bucket_arns["artifacts"]}/*", "${local.bucket_arns["jwks"]}/*"]
    },
    # What tenants have there goes with the environment. Nothing reads it, or writes it.
    {
      sid       = "RemoveTenantsBlobs"
      actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
      resources = ["${local.bucket_arns["blobs"]}/*"]
    },
    # The state of this environment. The owner who creates this role creates the bucket, too.
    {
      sid        = "ListState"
      actions    = ["s3:ListBucket"]
      resources  = [local.state_bucket_arn]
      conditions = [{ test = "StringLike", variable = "s3:prefix", values = ["${var.environment}/*"] }]
    },
    {
      sid       = "State"
      actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      resources = [for key in local.state_keys : "${local.state_bucket_arn}/${key}"]
    },
    # Redrive: dead letters, and the change that one of them is about.
    {
      sid       = "DeadLetters"
      actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
      resources = ["${local.arn.sqs}:${local.name}-*"]
    },
    {
      sid       = "ReadStream"
      actions   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
      resources = ["${local.arn.dynamodb}:table/${var.table_name}/stream/*"]
    },
    {
      sid = "ReadAccount"
      actions = [
        "s3:ListAllMyBuckets",
        "servicequotas:GetAWSDefaultServiceQuota",
        "servicequotas:GetServiceQuota",
        "servicequotas:ListServiceQuotas",
        "sts:GetCallerIdentity",
        "tag:GetResources",
      ]
      resources = ["*"]
    },
  ]
}
