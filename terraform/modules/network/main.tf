# A VPC with private subnets only: nothing in it has an address on the internet, and no route leads there, unless NAT
# is enabled (nat.tf). flow_logs.tf records connections.

resource "aws_vpc" "this" {
  cidr_block           = var.cidr_block
  enable_dns_hostnames = var.dns_hostnames
  enable_dns_support   = true

  tags = { Name = var.name }
}

resource "aws_subnet" "private" {
  for_each = { for index, zone in var.availability_zones : zone => cidrsubnet(var.cidr_block, 4, index) }

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = each.value
  map_public_ip_on_launch = false

  tags = { Name = "${var.name}-private-${each.key}" }
}

# One table for all zones, unless each has a NAT gateway of its own. Gateway endpoints (S3, DynamoDB) attach to it.
resource "aws_route_table" "private" {
  for_each = toset(var.nat == "per_zone" ? var.availability_zones : ["all"])

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[var.nat == "per_zone" ? each.key : "all"].id
}

# Adopted and emptied, so that a resource without a named group has no connections.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-default-closed" }
}
