# The only file that knows of the emulator: its address, and no checks that only AWS itself could answer.
# Credentials come from the environment, as on AWS: the launcher's are those of the deployer's role.

locals {
  stores_url = coalesce(var.stores_url, var.emulator_url)
}

provider "aws" {
  region = var.region

  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true

  # No name resolves to a bucket of the emulator.
  s3_use_path_style = true

  # With LocalStack beside the emulator, it has the stores, the events, and what functions need (their subnets, too).
  endpoints {
    apigatewayv2     = var.emulator_url
    cloudwatch       = local.stores_url
    cognitoidp       = var.emulator_url
    dynamodb         = local.stores_url
    ec2              = local.stores_url
    ecs              = var.emulator_url
    elbv2            = var.emulator_url
    events           = local.stores_url
    iam              = local.stores_url
    kms              = local.stores_url
    lambda           = local.stores_url
    logs             = local.stores_url
    s3               = local.stores_url
    secretsmanager   = local.stores_url
    servicediscovery = var.emulator_url
    sqs              = local.stores_url
    ssm              = local.stores_url
    sts              = local.stores_url
    wafv2            = var.emulator_url
  }

  default_tags {
    tags = {
      Project     = "tagged-config"
      Environment = "local"
      ManagedBy   = "terraform"
    }
  }
}
