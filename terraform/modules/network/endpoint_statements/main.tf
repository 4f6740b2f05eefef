# What the product's tasks and functions call through VPC endpoints: the statements of each endpoint's policy. No resource:
# the AWS target and the local one make endpoints of the same statements.

data "aws_partition" "current" {}

locals {
  pull_actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
  load_test    = var.load_test != null
}
