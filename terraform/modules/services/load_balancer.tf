# The internal load balancer: REST only. The gRPC and refresh listeners have no target group, hence no way in.

locals {
  target_groups = {
    config = var.config_http_port
    order  = var.order_http_port
  }

  # Matched in the order of their priority. Anything else is a 404 that never reaches a task; `/v1/config` has
  # no trailing wildcard, so that `/v1/configuration` is not config-service's.
  # With the stage of a REST API before them too, which API Gateway leaves in the path.
  prefixes = compact(["/", var.path_prefix == null ? "" : "${var.path_prefix}/"])

  rules = {
    health = {
      priority     = 5
      target_group = "config"
      methods      = ["GET"]
      paths        = ["v1/health"]
    }
    config-batch-get = {
      priority     = 10
      target_group = "config"
      methods      = []
      paths        = ["v1/config:batchGet"]
    }
    history = {
      priority     = 15
      target_group = "config"
      methods      = []
      paths        = ["v1/history", "v1/history:undo"]
    }
    config = {
      priority     = 20
      target_group = "config"
      methods      = []
      paths        = ["v1/config", "v1/config/*"]
    }
    order = {
      priority     = 30
      target_group = "order"
      methods      = []
      paths        = ["v1/orders", "v1/orders/*"]
    }
  }
}

resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_91:Optional: every request has a line in the API's access log, and the load balancer is reached through the API alone.
  #checkov:skip=CKV2_AWS_28:The web ACL guards the API's stage; with an HTTP API it is associated here, by the module edge.
  #checkov:skip=CKV_AWS_150:Deletion protection is a variable: on in prod, off where environments come and go.
  #checkov:skip=CKV2_AWS_20:Internal, reached by VPC link; the listener is HTTPS when a certificate is given (ADR 5).
  name               = var.name
  internal           = true
  load_balancer_type = "application"
  subnets            = var.subnet_ids
  security_groups    = [var.alb_security_group_id]

  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  idle_timeout               = 60

  dynamic "access_logs" {
    for_each = var.access_logs_bucket == null ? [] : [var.access_logs_bucket]

    content {
      enabled = true
      bucket  = access_logs.value
      prefix  = var.name
    }
  }
}

resource "aws_lb_target_group" "this" {
  #checkov:skip=CKV_AWS_378:Tasks speak HTTP inside the VPC, guarded by security groups (ADR 5).
  for_each = local.target_groups

  # A group's port cannot be changed: another port is another group beside the one in use, under a name of its own.
  name                          = "${var.name}-${each.key}-${each.value}"
  vpc_id                        = var.vpc_id
  target_type                   = "ip"
  protocol                      = "HTTP"
  port                          = each.value
  deregistration_delay          = var.deregistration_delay_seconds
  load_balancing_algorithm_type = "least_outstanding_requests"

  health_check {
    path                = var.health_check_path
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  lifecycle {
    create_before_destroy = true
  }
}

# One listener: HTTPS where there is a certificate, else HTTP (ADR 5). There is no redirect from one to the other.
resource "aws_lb_listener" "http" {
  #checkov:skip=CKV_AWS_2:HTTPS when a certificate is given; without one the hop inside the VPC is plaintext (ADR 5).
  #checkov:skip=CKV_AWS_103:TLS 1.3 or 1.2 with forward secrecy by the policy below, when a certificate is given.
  load_balancer_arn = aws_lb.this.arn
  port              = var.listener_port
  protocol          = var.certificate_arn == null ? "HTTP" : "HTTPS"
  certificate_arn   = var.certificate_arn
  ssl_policy        = var.certificate_arn == null ? null : "ELBSecurityPolicy-TLS13-1-2-2021-06"

  default_action {
    type = "fixed-response"

    # The load balancer allows five content types and problem+json is not among them; the body is one all the same.
    fixed_response {
      status_code  = "404"
      content_type = "application/json"
      message_body = jsonencode({
        type   = "about:blank"
        title  = "Not Found"
        status = 404
        detail = "No such resource."
      })
    }
  }
}

resource "aws_lb_listener_rule" "this" {
  for_each = local.rules

  listener_arn = aws_lb_listener.http.arn
  priority     = each.value.priority

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[each.value.target_group].arn
  }

  condition {
    path_pattern {
      values = [for pair in setproduct(local.prefixes, each.value.paths) : "${pair[0]}${pair[1]}"]
    }
  }

  dynamic "condition" {
    for_each = length(each.value.methods) == 0 ? [] : [each.value.methods]

    content {
      http_request_method {
        values = condition.value
      }
    }
  }

  tags = { Name = "${var.name}-${each.key}" }
}
