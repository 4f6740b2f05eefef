# Plans only, with keys that mean nothing: no call leaves the machine.
provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  name                = "tagged-config"
  protected_resources = { stage = "arn:aws:apigateway:eu-west-1::/restapis/a/stages/live" }
  path_prefix         = "/live"
  log_group_arn       = "arn:aws:logs:eu-west-1:111122223333:log-group:aws-waf-logs-tagged-config"
}

run "the_acl_guards_the_stage" {
  command = plan

  assert {
    condition     = { for key, association in aws_wafv2_web_acl_association.this : key => association.resource_arn } == { stage = "arn:aws:apigateway:eu-west-1::/restapis/a/stages/live" }
    error_message = "The web ACL is not associated with the stage, or with more."
  }

  assert {
    condition     = one(aws_wafv2_web_acl.this.association_config[0].request_body[0].api_gateway).default_size_inspection_limit == "KB_64"
    error_message = "The stage inspects less of a body than it can."
  }
}

run "rules_are_the_agreed_ones" {
  command = plan

  assert {
    condition = { for rule in aws_wafv2_web_acl.this.rule : rule.name => rule.priority } == {
      RatePerClient                         = 0
      AWSManagedRulesAmazonIpReputationList = 10
      AWSManagedRulesAnonymousIpList        = 15
      AWSManagedRulesCommonRuleSet          = 20
      AWSManagedRulesKnownBadInputsRuleSet  = 30
      OutsideConfiguration                  = 40
    }
    error_message = "A rule is missing, or in another place."
  }

  assert {
    condition = [
      for rule in aws_wafv2_web_acl.this.rule : rule.name
      if length(rule.override_action) > 0 && length(flatten(rule.override_action[*].count)) > 0
    ] == ["AWSManagedRulesAnonymousIpList"]
    error_message = "A group of rules only counts, or VPNs are turned away."
  }
}

# Keys can have the form of file names, values can hold any text, and callers are programs.
run "configuration_is_not_blocked_for_what_it_is" {
  command = plan

  assert {
    condition = {
      for rule in aws_wafv2_web_acl.this.rule : rule.name =>
      sort(rule.statement[0].managed_rule_group_statement[0].rule_action_override[*].name)
      if length(flatten(rule.statement[0].managed_rule_group_statement[*].rule_action_override)) > 0
      } == {
      AWSManagedRulesCommonRuleSet = tolist([
        "CrossSiteScripting_BODY", "EC2MetaDataSSRF_BODY", "EC2MetaDataSSRF_QUERYARGUMENTS", "EC2MetaDataSSRF_URIPATH",
        "GenericLFI_BODY", "GenericLFI_QUERYARGUMENTS", "GenericLFI_URIPATH", "GenericRFI_BODY", "NoUserAgent_HEADER",
        "RestrictedExtensions_QUERYARGUMENTS", "RestrictedExtensions_URIPATH", "SizeRestrictions_BODY",
      ])
      AWSManagedRulesKnownBadInputsRuleSet = tolist(["ExploitablePaths_URIPATH"])
    }
    error_message = "A key, a value or a program would be refused, or a rule is off that had not to be."
  }

  assert {
    condition = toset(flatten([
      for rule in aws_wafv2_web_acl.this.rule :
      rule.statement[0].and_statement[0].statement[0].or_statement[0].statement[*].label_match_statement[0].key
      if rule.name == "OutsideConfiguration"
      ])) == toset(concat(
      [for rule in keys(local.excepted_rules.AWSManagedRulesCommonRuleSet) : local.excepted_rules.AWSManagedRulesCommonRuleSet[rule]],
      ["awswaf:managed:aws:known-bad-inputs:ExploitablePaths_URIPath"],
    ))
    error_message = "What counts in its group is not blocked elsewhere."
  }

  # A label is the rule's name in other letters.
  assert {
    condition     = alltrue([for name, label in merge(values(local.excepted_rules)...) : lower(name) == lower(split(":", label)[4])])
    error_message = "A label is not that of its rule."
  }
}

# RE2 like Terraform's own: what WAF matches can be tried here.
run "only_configuration_may_hold_anything" {
  command = plan

  assert {
    condition = alltrue([
      for path in [
        "/v1/config", "/v1/config/a", "/v1/config/a/b", "/v1/config:batchGet", "/live/v1/config", "/live/v1/config/a", "/live/v1/config:batchGet",
        "/v1/config/a:history", "/v1/config/a:diff", "/v1/config/a:rollback", "/v1/history", "/v1/history:undo", "/live/v1/history", "/live/v1/history:undo",
      ] :
      can(regex(local.configuration_paths, path))
    ])
    error_message = "A value with markup in it could not be written."
  }

  assert {
    condition = !anytrue([
      for path in [
        "/v1/orders", "/v1/orders/v1/config", "/live/v1/orders/v1/config/a", "/v1/configuration", "/v1/config:batchGetX", "/test/v1/config",
        "//v1/config", "/v1/health", "/v1/history/a", "/v1/history:undoX", "/v1/historyX", "/v1/orders/v1/history", "//v1/history",
      ] : can(regex(local.configuration_paths, path))
    ])
    error_message = "A path beside configuration gets around the rules that configuration does not meet."
  }
}

run "without_a_stage" {
  command = plan

  variables {
    path_prefix = null
  }

  assert {
    condition     = can(regex(local.configuration_paths, "/v1/config/a")) && !can(regex(local.configuration_paths, "/live/v1/config/a")) && !can(regex(local.configuration_paths, "//v1/config"))
    error_message = "The paths are not matched from their beginning."
  }
}

run "callers_are_counted_by_their_own_address" {
  command = plan

  assert {
    condition = one([
      for rule in aws_wafv2_web_acl.this.rule : rule.statement[0].rate_based_statement[0] if rule.name == "RatePerClient"
    ]).aggregate_key_type == "IP"
    error_message = "A stage sees the client itself: no header may stand for it."
  }
}

run "callers_are_counted_by_a_header_behind_a_proxy" {
  command = plan

  variables {
    protected_resources = { load_balancer = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/app/a/1" }
    forwarded_ip_header = "X-Client-Ip"
  }

  assert {
    condition = alltrue([
      for rule in aws_wafv2_web_acl.this.rule :
      rule.statement[0].rate_based_statement[0].aggregate_key_type == "FORWARDED_IP"
      && rule.statement[0].rate_based_statement[0].forwarded_ip_config[0].header_name == "X-Client-Ip"
      if rule.name == "RatePerClient"
    ])
    error_message = "All callers share the proxy's address."
  }
}

run "blocks_are_logged_without_tokens" {
  command = plan

  assert {
    condition     = one(aws_wafv2_web_acl_logging_configuration.this[0].redacted_fields[*].single_header[0].name) == "authorization"
    error_message = "Tokens are written to the log."
  }

  assert {
    condition     = one(jsondecode(data.aws_iam_policy_document.log_delivery.json).Statement).Condition == { StringEquals = { "aws:SourceAccount" = "111122223333" } }
    error_message = "Another account's log could be delivered into the group."
  }
}

run "no_log_without_a_group" {
  command = plan

  variables {
    log_group_arn = null
  }

  assert {
    condition     = length(aws_wafv2_web_acl_logging_configuration.this) == 0 && length(aws_cloudwatch_log_resource_policy.log_delivery) == 0
    error_message = "A log goes nowhere."
  }
}

run "a_header_with_a_colon_is_refused" {
  command = plan

  variables {
    forwarded_ip_header = "X-Client-Ip:"
  }

  expect_failures = [var.forwarded_ip_header]
}

run "a_prefix_is_one_segment" {
  command = plan

  variables {
    path_prefix = "/live/"
  }

  expect_failures = [var.path_prefix]
}

run "a_limit_below_wafs_is_refused" {
  command = plan

  variables {
    requests_per_5_minutes = 9
  }

  expect_failures = [var.requests_per_5_minutes]
}

run "everybody_is_no_exception" {
  command = plan

  variables {
    unlimited_cidr_blocks = ["0.0.0.0/0"]
  }

  expect_failures = [var.unlimited_cidr_blocks]
}

run "a_group_that_waf_does_not_take_is_refused" {
  command = plan

  variables {
    log_group_arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/tagged-config/waf"
  }

  expect_failures = [var.log_group_arn]
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "Tagged"
  }

  expect_failures = [var.name]
}
