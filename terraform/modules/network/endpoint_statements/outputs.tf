output "interface_endpoints" {
  description = "Statements by service of an interface endpoint, as module endpoints takes them."
  value = merge(
    {
      "ecr.api" = [
        # This action knows no resource; the token it returns opens only what IAM allows.
        { sid = "RegistrySignIn", actions = ["ecr:GetAuthorizationToken"], resources = ["*"] },
        { sid = "PullImages", actions = local.pull_actions, resources = var.image_repository_arns },
      ]
      "ecr.dkr" = [
        { sid = "PullImages", actions = local.pull_actions, resources = var.image_repository_arns },
      ]
      logs = [
        {
          sid       = "WriteLogs"
          actions   = concat(["logs:CreateLogStream", "logs:PutLogEvents"], local.load_test ? ["logs:FilterLogEvents"] : [])
          resources = [for arn in var.log_group_arns : "${arn}:*"]
        },
      ]
      ssm = concat(
        [
          {
            sid       = "ReadParameters"
            actions   = ["ssm:GetParameters"]
            resources = ["${var.parameters_arn}/*", var.refresh_credential_parameter_arn]
          },
          {
            sid       = "ParameterHistory"
            actions   = ["ssm:GetParameterHistory"]
            resources = ["${var.parameters_arn}/*"]
          },
          {
            sid       = "ReadRefreshCredential"
            actions   = ["ssm:GetParameter"]
            resources = [var.refresh_credential_parameter_arn, "${var.refresh_credential_parameter_arn}:*"]
          },
        ],
        local.load_test ? [
          {
            sid       = "TestParameters"
            actions   = ["ssm:DeleteParameter", "ssm:PutParameter"]
            resources = ["${var.parameters_arn}/tenants/lt-*"]
          },
        ] : [],
      )
      # Of Cloud Map only the discovery of instances, which has an endpoint of its own. The action knows no resource.
      data-servicediscovery = [
        { sid = "FindTasks", actions = ["servicediscovery:DiscoverInstances"], resources = ["*"] },
      ]
    },
    local.load_test ? {
      cognito-idp = [
        {
          sid       = "TestUsers"
          actions   = ["cognito-idp:AdminCreateUser", "cognito-idp:AdminDeleteUser", "cognito-idp:AdminInitiateAuth", "cognito-idp:AdminSetUserPassword"]
          resources = [var.load_test.user_pool_arn]
        },
      ]
    } : {},
    var.secrets_arn == null ? {} : {
      secretsmanager = concat(
        [
          {
            sid       = "ReadSecrets"
            actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:ListSecretVersionIds"]
            resources = ["${var.secrets_arn}/tenants/*", "${var.secrets_arn}/global/*"]
          },
        ],
        local.load_test ? [
          {
            sid       = "TestSecrets"
            actions   = ["secretsmanager:CreateSecret", "secretsmanager:DeleteSecret"]
            resources = ["${var.secrets_arn}/tenants/lt-*"]
          },
        ] : [],
      )
    },
  )
}

# Layers of images come from S3, the signing keys and blobs.
output "gateway_endpoints" {
  description = "Statements by service of a gateway endpoint, as module endpoints takes them."
  value = {
    s3 = concat(
      # Layers come by addresses that ECR has signed, not by a principal of this account.
      [
        {
          sid           = "ImageLayers"
          actions       = ["s3:GetObject"]
          resources     = ["arn:${data.aws_partition.current.partition}:s3:::prod-${var.region}-starport-layer-bucket/*"]
          any_principal = true
        },
      ],
      var.jwks_object_arn == null ? [] : [
        { sid = "SigningKeys", actions = ["s3:GetObject"], resources = [var.jwks_object_arn], any_principal = false },
      ],
      var.blob_bucket_arn == null ? [] : [
        {
          sid           = "TenantsBlobs"
          actions       = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
          resources     = ["${var.blob_bucket_arn}/tenants/*"]
          any_principal = false
        },
        {
          sid           = "ReadSharedBlobs"
          actions       = ["s3:GetObject", "s3:GetObjectVersion"]
          resources     = ["${var.blob_bucket_arn}/global/*"]
          any_principal = false
        },
        { sid = "ListBlobs", actions = ["s3:ListBucket", "s3:ListBucketVersions"], resources = [var.blob_bucket_arn], any_principal = false },
      ],
    )
    dynamodb = [
      {
        sid = "Table"
        actions = concat(
          ["dynamodb:GetItem", "dynamodb:PartiQLDelete", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate", "dynamodb:Query"],
          var.table_scan_enabled ? ["dynamodb:Scan"] : [],
          local.load_test ? ["dynamodb:BatchWriteItem", "dynamodb:UpdateItem"] : [],
        )
        resources = [var.table_arn]
      },
      # config-service inserts by PartiQL, the invalidator by PutItem.
      { sid = "Journal", actions = ["dynamodb:PartiQLInsert", "dynamodb:PutItem", "dynamodb:Query"], resources = [var.journal_table_arn] },
      # Append-only for every caller.
      { sid = "History", actions = ["dynamodb:PartiQLInsert", "dynamodb:Query"], resources = [var.history_table_arn] },
      { sid = "HistoryByTime", actions = ["dynamodb:Query"], resources = ["${var.history_table_arn}/index/ByTime"] },
    ]
  }
}
