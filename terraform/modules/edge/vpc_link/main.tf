# The way from API Gateway into the VPC, for either kind of API. AWS deactivates a link after 60 days without use.

resource "aws_apigatewayv2_vpc_link" "this" {
  name               = var.name
  subnet_ids         = var.subnet_ids
  security_group_ids = [var.security_group_id]

  # A link cannot be changed, and cannot be removed while a stage uses it: other subnets need another link.
  lifecycle {
    create_before_destroy = true
  }
}
