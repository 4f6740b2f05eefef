# NAT gateways: an optional way out to the internet, for services that are adapted to call something there. Nothing in this project needs it.

locals {
  nat_zones = toset(var.nat == "per_zone" ? var.availability_zones : var.nat == "single" ? slice(var.availability_zones, 0, 1) : [])
}

resource "aws_internet_gateway" "this" {
  count = var.nat == "none" ? 0 : 1

  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

# Behind the private ones in the VPC's range, which take the first eight sixteenths.
resource "aws_subnet" "public" {
  for_each = local.nat_zones

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = cidrsubnet(var.cidr_block, 4, 8 + index(var.availability_zones, each.key))
  map_public_ip_on_launch = false

  tags = { Name = "${var.name}-public-${each.key}" }
}

resource "aws_route_table" "public" {
  count = var.nat == "none" ? 0 : 1

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "public" {
  count = var.nat == "none" ? 0 : 1

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_eip" "nat" {
  for_each = local.nat_zones

  domain = "vpc"

  tags = { Name = "${var.name}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = local.nat_zones

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.key}" }

  depends_on = [aws_route.public]
}

resource "aws_route" "nat" {
  for_each = var.nat == "none" ? {} : aws_route_table.private

  route_table_id         = each.value.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[each.key == "all" ? var.availability_zones[0] : each.key].id
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  for_each = var.nat == "none" ? toset([]) : local.api_callers

  security_group_id = aws_security_group.this[each.key].id
  cidr_ipv4         = "0.0.0.0/0"
  description       = "HTTPS to the internet through NAT"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  tags = { Name = "${each.key}-to-internet" }
}
