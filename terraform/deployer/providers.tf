# Endpoint and credentials come from the environment, as in the other roots. AWS_ENDPOINT_URL names an emulator.

provider "aws" {
  region = var.region

  # No Environment: `make destroy-verify` counts what has it, and this role outlives an environment.
  default_tags {
    tags = {
      Project   = "tagged-config"
      ManagedBy = "terraform"
    }
  }
}
