# One group per role on the path, one described rule per purpose. A connection needs its egress and its ingress
# rule; both come from the same entry of `local.connections`, so neither can be forgotten or drift.

locals {
  groups = merge(var.load_test_runner ? { load-test = "Load test runner" } : {}, {
    edge           = "VPC link of API Gateway"
    alb            = "Internal load balancer"
    config-service = "config-service tasks"
    order-service  = "order-service tasks"
    invalidator    = "Invalidator function"
  })

  load_test_connections = {
    load-test-to-alb = {
      from        = "load-test"
      to          = "alb"
      port        = var.ports.listener
      description = "Load test through the load balancer"
    }
    load-test-to-config-grpc = {
      from        = "load-test"
      to          = "config-service"
      port        = var.ports.config_grpc
      description = "Load test of each task over gRPC"
    }
    load-test-to-config-http = {
      from        = "load-test"
      to          = "config-service"
      port        = var.ports.config_http
      description = "Metrics of each task, read by the load test"
    }
  }

  connections = merge(var.load_test_runner ? local.load_test_connections : {}, {
    edge-to-alb = {
      from        = "edge"
      to          = "alb"
      port        = var.ports.listener
      description = "API requests from the VPC link to the listener"
    }
    alb-to-config = {
      from        = "alb"
      to          = "config-service"
      port        = var.ports.config_http
      description = "REST facade of config-service, and its health check"
    }
    alb-to-order = {
      from        = "alb"
      to          = "order-service"
      port        = var.ports.order_http
      description = "REST API of order-service, and its health check"
    }
    order-to-config = {
      from        = "order-service"
      to          = "config-service"
      port        = var.ports.config_grpc
      description = "Configuration reads over gRPC"
    }
    invalidator-to-refresh = {
      from        = "invalidator"
      to          = "config-service"
      port        = var.ports.config_refresh
      description = "Refresh calls of the invalidator"
    }
    config-to-refresh = {
      from        = "config-service"
      to          = "config-service"
      port        = var.ports.config_refresh
      description = "Whether a write has reached the other tasks"
    }
  })

  # What has to call AWS APIs. The way there comes with the endpoints (module endpoints), or with NAT.
  api_callers = toset(concat(["config-service", "order-service", "invalidator"], var.load_test_runner ? ["load-test"] : []))
}

resource "aws_security_group" "this" {
  #checkov:skip=CKV2_AWS_5:Handed out by id: the modules of load balancer, tasks, function and VPC link attach them.
  for_each = local.groups

  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-${each.key}" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "connection" {
  for_each = local.connections

  security_group_id            = aws_security_group.this[each.value.from].id
  referenced_security_group_id = aws_security_group.this[each.value.to].id
  description                  = each.value.description
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port

  tags = { Name = each.key }
}

resource "aws_vpc_security_group_ingress_rule" "connection" {
  for_each = local.connections

  security_group_id            = aws_security_group.this[each.value.to].id
  referenced_security_group_id = aws_security_group.this[each.value.from].id
  description                  = each.value.description
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port

  tags = { Name = each.key }
}
