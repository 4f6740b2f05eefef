# The web ACL in front of the API. It is the same on every target; what it guards is an input.
# The API itself is one of the modules below this one (`http_api`), picked by the root.

locals {
  managed_rule_groups = {
    AWSManagedRulesAmazonIpReputationList = {
      priority = 10
      counted  = []
    }
    # A configuration value may be 256 KiB long and may hold URLs: two rules of the common set would refuse what
    # the service is for. They count only; the service checks the size itself.
    AWSManagedRulesCommonRuleSet = {
      priority = 20
      counted  = ["SizeRestrictions_BODY", "GenericRFI_BODY"]
    }
    AWSManagedRulesKnownBadInputsRuleSet = {
      priority = 30
      counted  = []
    }
  }
}

resource "aws_wafv2_web_acl" "this" {
  name        = var.name
  description = "Guards the public API"
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  rule {
    name     = "RatePerClient"
    priority = 0

    action {
      block {}
    }

    statement {
      rate_based_statement {
        limit                 = var.requests_per_5_minutes
        evaluation_window_sec = 300
        aggregate_key_type    = var.forwarded_ip_header == null ? "IP" : "FORWARDED_IP"

        dynamic "forwarded_ip_config" {
          for_each = var.forwarded_ip_header == null ? [] : [var.forwarded_ip_header]

          content {
            header_name       = forwarded_ip_config.value
            fallback_behavior = "NO_MATCH"
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "RatePerClient"
      sampled_requests_enabled   = true
    }
  }

  dynamic "rule" {
    for_each = local.managed_rule_groups

    content {
      name     = rule.key
      priority = rule.value.priority

      override_action {
        none {}
      }

      statement {
        managed_rule_group_statement {
          vendor_name = "AWS"
          name        = rule.key

          dynamic "rule_action_override" {
            for_each = rule.value.counted

            content {
              name = rule_action_override.value

              action_to_use {
                count {}
              }
            }
          }
        }
      }

      visibility_config {
        cloudwatch_metrics_enabled = true
        metric_name                = rule.key
        sampled_requests_enabled   = true
      }
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = var.name
    sampled_requests_enabled   = true
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  for_each = var.protected_resources

  web_acl_arn  = aws_wafv2_web_acl.this.arn
  resource_arn = each.value
}
