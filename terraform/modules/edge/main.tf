# The web ACL in front of the API. It is the same on every target; what it guards is an input.
# The API itself is one of the modules below this one (`rest_api`, `http_api`), picked by the root.

locals {
  # Rules of the managed groups that would refuse what the service is for, by group, with the label that each leaves. In the
  # group they only count, and the rule OutsideConfiguration blocks on their labels wherever the path is not a configuration's.
  #
  # Bodies: a value may be 256 KiB long, a blob 8 MiB, and either may hold URLs, paths, markup and code. Paths and query arguments: a key may end in
  # .log or .ini and hold "latest/meta-data", "etc/passwd" or "web-inf"; what the other rules about them match is not in its
  # alphabet. No User-Agent: callers are programs. Of the known bad inputs, bodies stay blocked: a program that reads a value may be
  # their target.
  excepted_rules = {
    AWSManagedRulesCommonRuleSet = {
      CrossSiteScripting_BODY             = "awswaf:managed:aws:core-rule-set:CrossSiteScripting_Body"
      EC2MetaDataSSRF_BODY                = "awswaf:managed:aws:core-rule-set:EC2MetaDataSSRF_Body"
      EC2MetaDataSSRF_QUERYARGUMENTS      = "awswaf:managed:aws:core-rule-set:EC2MetaDataSSRF_QueryArguments"
      EC2MetaDataSSRF_URIPATH             = "awswaf:managed:aws:core-rule-set:EC2MetaDataSSRF_URIPath"
      GenericLFI_BODY                     = "awswaf:managed:aws:core-rule-set:GenericLFI_Body"
      GenericLFI_QUERYARGUMENTS           = "awswaf:managed:aws:core-rule-set:GenericLFI_QueryArguments"
      GenericLFI_URIPATH                  = "awswaf:managed:aws:core-rule-set:GenericLFI_URIPath"
      GenericRFI_BODY                     = "awswaf:managed:aws:core-rule-set:GenericRFI_Body"
      NoUserAgent_HEADER                  = "awswaf:managed:aws:core-rule-set:NoUserAgent_Header"
      RestrictedExtensions_QUERYARGUMENTS = "awswaf:managed:aws:core-rule-set:RestrictedExtensions_QueryArguments"
      RestrictedExtensions_URIPATH        = "awswaf:managed:aws:core-rule-set:RestrictedExtensions_URIPath"
      SizeRestrictions_BODY               = "awswaf:managed:aws:core-rule-set:SizeRestrictions_Body"
    }
    AWSManagedRulesKnownBadInputsRuleSet = {
      ExploitablePaths_URIPATH = "awswaf:managed:aws:known-bad-inputs:ExploitablePaths_URIPath"
    }
  }

  managed_rule_groups = {
    AWSManagedRulesAmazonIpReputationList = {
      priority = 10
      action   = "none"
    }
    # VPNs and hosting providers: many callers of an API are in one. Counted, not blocked: the metric shows them.
    AWSManagedRulesAnonymousIpList = {
      priority = 15
      action   = "count"
    }
    AWSManagedRulesCommonRuleSet = {
      priority = 20
      action   = "none"
    }
    AWSManagedRulesKnownBadInputsRuleSet = {
      priority = 30
      action   = "none"
    }
  }

  # From the first character on, with and without the stage of a REST API: no other path can get around the rules. The history
  # takes keys as query arguments, and in bodies.
  configuration_paths = "^${var.path_prefix == null ? "" : "(${var.path_prefix})?"}/v1/(config(/|:batchGet$|$)|history(:undo)?$)"
}

resource "aws_wafv2_ip_set" "unlimited" {
  name               = "${var.name}-unlimited"
  description        = "Whom the rate limit leaves out, such as a load test"
  scope              = "REGIONAL"
  ip_address_version = "IPV4"
  addresses          = var.unlimited_cidr_blocks
}

resource "aws_wafv2_web_acl" "this" {
  #checkov:skip=CKV_AWS_192:The group that knows Log4j (KnownBadInputs) is among the dynamic rules below, which checkov does not expand.
  name        = var.name
  description = "Guards the public API"
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  # A REST API's stage inspects up to 64 KiB of a body (a load balancer 8 KiB, which cannot be raised).
  association_config {
    request_body {
      api_gateway {
        default_size_inspection_limit = "KB_64"
      }
    }
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

        # Only this rule has exceptions: all others apply to all callers.
        scope_down_statement {
          not_statement {
            statement {
              ip_set_reference_statement {
                arn = aws_wafv2_ip_set.unlimited.arn

                dynamic "ip_set_forwarded_ip_config" {
                  for_each = var.forwarded_ip_header == null ? [] : [var.forwarded_ip_header]

                  content {
                    header_name       = ip_set_forwarded_ip_config.value
                    fallback_behavior = "NO_MATCH"
                    position          = "FIRST"
                  }
                }
              }
            }
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
        dynamic "none" {
          for_each = rule.value.action == "none" ? [1] : []
          content {}
        }

        dynamic "count" {
          for_each = rule.value.action == "count" ? [1] : []
          content {}
        }
      }

      statement {
        managed_rule_group_statement {
          vendor_name = "AWS"
          name        = rule.key

          dynamic "rule_action_override" {
            for_each = keys(lookup(local.excepted_rules, rule.key, {}))

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

  rule {
    name     = "OutsideConfiguration"
    priority = 40

    action {
      block {}
    }

    statement {
      and_statement {
        statement {
          or_statement {
            dynamic "statement" {
              for_each = merge(values(local.excepted_rules)...)

              content {
                label_match_statement {
                  scope = "LABEL"
                  key   = statement.value
                }
              }
            }
          }
        }

        statement {
          not_statement {
            statement {
              regex_match_statement {
                regex_string = local.configuration_paths

                field_to_match {
                  uri_path {}
                }

                text_transformation {
                  priority = 0
                  type     = "NONE"
                }
              }
            }
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "OutsideConfiguration"
      sampled_requests_enabled   = true
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

# What was blocked or counted; of the rest there is the API's own access log. Tokens are left out.
resource "aws_wafv2_web_acl_logging_configuration" "this" {
  count = var.log_group_arn == null ? 0 : 1

  resource_arn            = aws_wafv2_web_acl.this.arn
  log_destination_configs = [var.log_group_arn]

  depends_on = [aws_cloudwatch_log_resource_policy.log_delivery]

  redacted_fields {
    single_header {
      name = "authorization"
    }
  }

  logging_filter {
    default_behavior = "DROP"

    filter {
      behavior    = "KEEP"
      requirement = "MEETS_ANY"

      condition {
        action_condition {
          action = "BLOCK"
        }
      }

      condition {
        action_condition {
          action = "COUNT"
        }
      }
    }
  }
}

# WAF hands its log to the delivery service, which this lets write to the one group. Without it AWS would make a policy
# of its own, which nothing would ever remove. A region takes ten such policies: where others have used them up, this one is refused
# (LimitExceededException), and the statement has to go into one that is there.
data "aws_iam_policy_document" "log_delivery" {
  statement {
    sid       = "WafLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${coalesce(var.log_group_arn, "none")}:*"]

    principals {
      type        = "Service"
      identifiers = ["delivery.logs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [try(split(":", var.log_group_arn)[4], "none")]
    }
  }
}

resource "aws_cloudwatch_log_resource_policy" "log_delivery" {
  count = var.log_group_arn == null ? 0 : 1

  policy_name     = "${var.name}-waf"
  policy_document = data.aws_iam_policy_document.log_delivery.json
}
