# Address and credentials come from the environment, as everywhere: an emulator is AWS_ENDPOINT_URL.

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
