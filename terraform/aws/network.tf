module "network" {
  source = "../modules/network"

  name               = local.name
  cidr_block         = var.cidr_block
  availability_zones = slice(data.aws_availability_zones.available.names, 0, var.availability_zone_count)
  ports              = local.ports
  nat                = var.nat
  flow_log_group_arn = local.log_group_arns["flow-logs"]
  load_test_runner   = var.load_test_runner
}

locals {
  pull_actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]

  parameters_arn = "arn:${local.partition}:ssm:${var.region}:${local.account_id}:parameter${var.parameter_root}"
}

module "endpoints" {
  source = "../modules/network/endpoints"

  name            = local.name
  account_id      = local.account_id
  region          = var.region
  vpc_id          = module.network.vpc_id
  subnet_ids      = module.network.private_subnet_ids
  route_table_ids = module.network.private_route_table_ids

  caller_security_group_ids = {
    for name in module.network.api_caller_names : name => module.network.security_group_ids[name]
  }

  interface_endpoints = merge(
    {
      "ecr.api" = [
        # This action knows no resource; the token it returns opens only what IAM allows.
        { sid = "RegistrySignIn", actions = ["ecr:GetAuthorizationToken"], resources = ["*"] },
        { sid = "PullImages", actions = local.pull_actions, resources = values(module.images.repository_arns) },
      ]
      "ecr.dkr" = [
        { sid = "PullImages", actions = local.pull_actions, resources = values(module.images.repository_arns) },
      ]
      logs = [
        {
          sid     = "WriteLogs"
          actions = concat(["logs:CreateLogStream", "logs:PutLogEvents"], var.load_test_runner ? ["logs:FilterLogEvents"] : [])
          resources = [
            for program in concat(["config-service", "order-service"], var.load_test_runner ? ["load-test", "invalidator"] : []) :
            "${local.log_group_arns[program]}:*"
          ]
        },
      ]
      ssm = concat(
        [
          {
            sid       = "ReadParameters"
            actions   = ["ssm:GetParameters"]
            resources = ["${local.parameters_arn}/*", module.refresh_credential.parameter_arn]
          },
          { sid = "ReadRefreshCredential", actions = ["ssm:GetParameter"], resources = [module.refresh_credential.parameter_arn] },
        ],
        var.load_test_runner ? [
          {
            sid       = "TestParameters"
            actions   = ["ssm:DeleteParameter", "ssm:PutParameter"]
            resources = ["${local.parameters_arn}/tenants/lt-*"]
          },
        ] : [],
      )
      # Of Cloud Map only the discovery of instances, which has an endpoint of its own. The action knows no resource.
      data-servicediscovery = [
        { sid = "FindTasks", actions = ["servicediscovery:DiscoverInstances"], resources = ["*"] },
      ]
    },
    var.load_test_runner ? {
      cognito-idp = [
        {
          sid       = "TestUsers"
          actions   = ["cognito-idp:AdminCreateUser", "cognito-idp:AdminDeleteUser", "cognito-idp:AdminInitiateAuth", "cognito-idp:AdminSetUserPassword"]
          resources = [module.identity.user_pool_arn]
        },
      ]
    } : {},
  )

  # Layers of images come from S3, and the signing keys. The invalidator needs neither: Lambda itself loads its code. It appends
  # to the journal; Lambda itself reads the table's stream.
  gateway_callers = {
    s3       = setsubtract(module.network.api_caller_names, ["invalidator"])
    dynamodb = setsubtract(module.network.api_caller_names, ["order-service"])
  }

  gateway_endpoints = {
    s3 = [
      # Layers come by addresses that ECR has signed, not by a principal of this account.
      {
        sid           = "ImageLayers"
        actions       = ["s3:GetObject"]
        resources     = ["arn:${local.partition}:s3:::prod-${var.region}-starport-layer-bucket/*"]
        any_principal = true
      },
      { sid = "SigningKeys", actions = ["s3:GetObject"], resources = [module.jwks_mirror.object_arn] },
    ]
    dynamodb = [
      {
        sid = "Table"
        actions = concat(
          [
            "dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query",
            "dynamodb:UpdateItem",
          ],
          var.load_test_runner ? ["dynamodb:BatchWriteItem"] : [],
        )
        resources = [module.storage.table_arn]
      },
      { sid = "Journal", actions = ["dynamodb:PutItem", "dynamodb:Query"], resources = [module.storage.journal_table_arn] },
    ]
  }
}
