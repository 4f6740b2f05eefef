# The way from API Gateway into the VPC, for either kind of API. AWS lets a link that nobody uses for 60 days go inactive.

resource "aws_apigatewayv2_vpc_link" "this" {
  name               = var.name
  subnet_ids         = var.subnet_ids
  security_group_ids = [var.security_group_id]

  # A link cannot be changed, nor removed while a stage goes through it: other subnets are another link.
  lifecycle {
    create_before_destroy = true
  }
}
