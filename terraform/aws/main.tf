# The AWS target: the modules of the local target, and what only AWS has. One file for each part of the path:
#
#   edge.tf      web ACL, API, VPC link         network.tf   VPC, endpoints          images.tf    repositories
#   identity.tf  user pool, key mirror          services.tf  balancer, tasks         storage.tf   table, parameters, blobs
#   refresh.tf   invalidator                    observability.tf  logs, alarms       load_test.tf a runner (optional)

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:Names are sorted and the first two or three are taken (network.tf): a new zone comes last.
  state = "available"

  # A VPC link (V2) refuses subnets in these, and cannot be changed once made.
  exclude_zone_ids = ["apne1-az3", "apne2-az4", "ape1-az1", "cac1-az3", "cac1-az4", "euw3-az2", "use1-az3", "usw1-az2"]

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }

  lifecycle {
    postcondition {
      condition     = length(self.names) >= var.availability_zone_count
      error_message = "${var.region} has ${length(self.names)} zones that a VPC link can be in: lower availability_zone_count, or take another region."
    }
  }
}

locals {
  name       = "tagged-config-${var.environment}"
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  tags = {
    Project     = "tagged-config"
    Environment = var.environment
    ManagedBy   = "terraform"
  }

  ports = {
    listener       = var.certificate_arn == null ? 80 : 443
    config_http    = 8080
    config_grpc    = 50051
    config_refresh = 50052
    order_http     = 8090
  }

  namespace     = "${local.name}.internal"
  function_name = "${local.name}-invalidator"

  # Both APIs and the tasks use it: a REST API leaves its stage in the path.
  stage_name  = "live"
  path_prefix = var.api_type == "rest" ? "/${local.stage_name}" : null

  # Functions and tasks of one deployment carry one tag.
  package = {
    for function in ["invalidator", "jwks-mirror"] :
    function => { s3_bucket = module.images.artifacts_bucket, s3_key = "${var.image_tag}/${function}.zip" }
  }
  lambda_architecture = var.architecture == "ARM64" ? "arm64" : "x86_64"
}
