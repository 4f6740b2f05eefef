# Credentials and endpoint as the AWS SDKs find them. Everything is tagged, so that what is left can be found.

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}
