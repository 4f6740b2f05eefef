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
  name            = "tagged-config"
  account_id      = "111122223333"
  region          = "eu-west-1"
  vpc_id          = "vpc-1"
  subnet_ids      = ["subnet-1", "subnet-2"]
  route_table_ids = ["rtb-1"]
  caller_security_group_ids = {
    config-service = "sg-1"
    order-service  = "sg-2"
    invalidator    = "sg-3"
  }
  interface_endpoints = {
    ssm = [{ sid = "Parameters", actions = ["ssm:GetParameters"], resources = ["arn:aws:ssm:eu-west-1:111122223333:parameter/x/*"] }]
  }
  gateway_endpoints = {
    dynamodb = [{ sid = "Table", actions = ["dynamodb:GetItem"], resources = ["arn:aws:dynamodb:eu-west-1:111122223333:table/T"] }]
    s3       = [{ sid = "Layers", actions = ["s3:GetObject"], resources = ["arn:aws:s3:::layers/*"], any_principal = true }]
  }
  gateway_callers = {
    dynamodb = ["config-service"]
    s3       = ["config-service", "order-service"]
  }
}

run "policies_let_through_what_is_named_to_this_account" {
  command = plan

  assert {
    condition = one(jsondecode(data.aws_iam_policy_document.this["ssm"].json).Statement) == {
      Sid       = "Parameters"
      Effect    = "Allow"
      Principal = { AWS = "*" }
      Action    = "ssm:GetParameters"
      Resource  = "arn:aws:ssm:eu-west-1:111122223333:parameter/x/*"
      Condition = { StringEquals = { "aws:PrincipalAccount" = "111122223333" } }
    }
    error_message = "An endpoint lets through more than was named, or another account."
  }

  assert {
    condition     = !can(one(jsondecode(data.aws_iam_policy_document.this["s3"].json).Statement).Condition)
    error_message = "Layers come by signed addresses: a condition on the principal would keep images out."
  }

  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : endpoint.private_dns_enabled]) && aws_vpc_endpoint.interface["ssm"].service_name == "com.amazonaws.eu-west-1.ssm"
    error_message = "Programs would have to know the endpoint's own name."
  }
}

run "each_caller_gets_out_to_what_it_needs" {
  command = plan

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.gateway) == ["config-service-to-dynamodb", "config-service-to-s3", "order-service-to-s3"]
    error_message = "A program reaches a gateway endpoint that it does not need, or not one that it needs."
  }

  assert {
    condition = (
      toset(keys(aws_vpc_security_group_egress_rule.interface)) == toset(keys(var.caller_security_group_ids))
      && alltrue([for rule in aws_vpc_security_group_egress_rule.interface : rule.cidr_ipv4 == null && rule.from_port == 443])
    )
    error_message = "A caller gets out to a range of addresses, or does not reach the interface endpoints."
  }

  assert {
    condition     = tomap({ for name, rule in aws_vpc_security_group_ingress_rule.caller : name => rule.referenced_security_group_id }) == var.caller_security_group_ids
    error_message = "The endpoints admit other callers."
  }
}

run "a_third_gateway_endpoint_is_refused" {
  command = plan

  variables {
    gateway_endpoints = { sqs = [] }
    gateway_callers   = { sqs = [] }
  }

  expect_failures = [var.gateway_endpoints]
}

run "an_endpoint_that_nobody_may_reach_is_refused" {
  command = plan

  variables {
    gateway_callers = { s3 = ["config-service"] }
  }

  expect_failures = [var.gateway_callers]
}

run "an_unknown_caller_is_refused" {
  command = plan

  variables {
    gateway_callers = { s3 = ["nobody"], dynamodb = [] }
  }

  expect_failures = [var.gateway_callers]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}

run "a_malformed_account_is_refused" {
  command = plan

  variables {
    account_id = "1"
  }

  expect_failures = [var.account_id]
}
