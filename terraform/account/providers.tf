# Credentials and endpoint as the AWS SDKs find them. Tagged as no environment's, so that no environment's removal finds it.

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      Project   = "tagged-config"
      ManagedBy = "terraform"
    }
  }
}
