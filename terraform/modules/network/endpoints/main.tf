# How AWS is reached from a VPC without a way to the internet: interface endpoints (by the hour) and gateway endpoints
# (free), each with a policy that allows what is needed and nothing else. Without one, a task fails after three minutes.

resource "aws_security_group" "this" {
  name        = "${var.name}-endpoints"
  description = "Interface endpoints of AWS APIs"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-endpoints" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "caller" {
  for_each = var.caller_security_group_ids

  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value
  description                  = "AWS APIs, called by ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443

  tags = { Name = "${each.key}-to-aws-api" }
}

resource "aws_vpc_security_group_egress_rule" "interface" {
  for_each = var.caller_security_group_ids

  security_group_id            = each.value
  referenced_security_group_id = aws_security_group.this.id
  description                  = "AWS APIs through interface endpoints in the VPC"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443

  tags = { Name = "${each.key}-to-aws-api" }
}

data "aws_iam_policy_document" "this" {
  for_each = merge(var.interface_endpoints, var.gateway_endpoints)

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = statement.value.resources

      principals {
        type        = "AWS"
        identifiers = ["*"]
      }

      dynamic "condition" {
        for_each = statement.value.any_principal ? [] : [var.account_id]

        content {
          test     = "StringEquals"
          variable = "aws:PrincipalAccount"
          values   = [condition.value]
        }
      }
    }
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = var.interface_endpoints

  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.this.id]
  private_dns_enabled = true
  policy              = data.aws_iam_policy_document.this[each.key].json

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = var.gateway_endpoints

  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_table_ids
  policy            = data.aws_iam_policy_document.this[each.key].json

  tags = { Name = "${var.name}-${each.key}" }
}

# A gateway endpoint has no address in the VPC: security groups know it by its prefix list.
locals {
  gateway_rules = merge([
    for service, callers in var.gateway_callers : {
      for caller in callers : "${caller}-to-${service}" => { caller = caller, service = service }
    }
  ]...)
}

resource "aws_vpc_security_group_egress_rule" "gateway" {
  for_each = local.gateway_rules

  security_group_id = var.caller_security_group_ids[each.value.caller]
  prefix_list_id    = aws_vpc_endpoint.gateway[each.value.service].prefix_list_id
  description       = "${each.value.service} through its gateway endpoint"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  tags = { Name = each.key }
}
