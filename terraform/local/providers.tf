# The only place that knows an emulator is on the other side: its address, credentials that mean nothing, and
# checks that only AWS itself could answer.

provider "aws" {
  region     = var.region
  access_key = "test"
  secret_key = "test"

  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true

  endpoints {
    apigatewayv2     = var.emulator_url
    cloudwatch       = var.emulator_url
    cognitoidp       = var.emulator_url
    dynamodb         = var.emulator_url
    ec2              = var.emulator_url
    ecs              = var.emulator_url
    elbv2            = var.emulator_url
    events           = var.emulator_url
    iam              = var.emulator_url
    kms              = var.emulator_url
    lambda           = var.emulator_url
    logs             = var.emulator_url
    secretsmanager   = var.emulator_url
    servicediscovery = var.emulator_url
    sqs              = var.emulator_url
    ssm              = var.emulator_url
    sts              = var.emulator_url
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
