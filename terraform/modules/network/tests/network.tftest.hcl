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
  name               = "tagged-config"
  availability_zones = ["eu-west-1a", "eu-west-1b"]
  ports = {
    listener       = 80
    config_http    = 8080
    config_grpc    = 50051
    config_refresh = 50052
    order_http     = 8081
  }
}

run "refresh_port_admits_the_invalidator_and_the_other_tasks_only" {
  command = plan

  assert {
    condition = [
      for name, rule in aws_vpc_security_group_ingress_rule.connection : name
      if rule.from_port <= 50052 && rule.to_port >= 50052
    ] == ["config-to-refresh", "invalidator-to-refresh"]
    error_message = "A rule beside the invalidator's and the tasks' own reaches the refresh port."
  }

  assert {
    condition     = [for name in ["config-to-refresh", "invalidator-to-refresh"] : local.connections[name].from] == ["config-service", "invalidator"]
    error_message = "The refresh port is open to someone else."
  }

  assert {
    condition     = local.connections["config-to-refresh"].to == "config-service" && keys(aws_vpc_security_group_egress_rule.connection) == keys(aws_vpc_security_group_ingress_rule.connection)
    error_message = "A task cannot reach the others."
  }

  # Cloud Map has an interface endpoint, which every caller of APIs reaches (module endpoints).
  assert {
    condition     = contains(output.api_caller_names, "config-service")
    error_message = "A task cannot find the others."
  }
}

run "every_ingress_names_a_group_and_a_purpose" {
  command = plan

  assert {
    condition = alltrue([
      for rule in aws_vpc_security_group_ingress_rule.connection : rule.cidr_ipv4 == null && rule.description != ""
    ])
    error_message = "An ingress rule admits a range, or does not say what for."
  }
}

# The provider checks lengths only; EC2 refuses every other character, an apostrophe for one.
run "descriptions_have_characters_that_ec2_takes" {
  command = plan

  variables {
    load_test_runner = true
    nat              = "single"
  }

  assert {
    condition = alltrue([
      for description in concat(
        [for group in aws_security_group.this : group.description],
        [for rule in aws_vpc_security_group_ingress_rule.connection : rule.description],
        [for rule in aws_vpc_security_group_egress_rule.connection : rule.description],
        [for rule in aws_vpc_security_group_egress_rule.internet : rule.description],
      ) : can(regex("^[A-Za-z0-9 ._:/()#,@\\[\\]+=&;{}!$*-]{1,255}$", description))
    ])
    error_message = "EC2 would refuse the description of a group or of a rule."
  }
}

run "one_zone_is_refused" {
  command = plan

  variables {
    availability_zones = ["eu-west-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "shared_refresh_port_is_refused" {
  command = plan

  variables {
    ports = {
      listener       = 80
      config_http    = 8080
      config_grpc    = 50051
      config_refresh = 50051
      order_http     = 8081
    }
  }

  expect_failures = [var.ports]
}

run "nothing_leads_to_the_internet" {
  command = plan

  assert {
    condition     = length(aws_internet_gateway.this) == 0 && length(aws_nat_gateway.this) == 0 && length(aws_vpc_security_group_egress_rule.internet) == 0
    error_message = "There is a way to the internet by default."
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_egress_rule.connection : rule.cidr_ipv4 == null]) && alltrue([for subnet in aws_subnet.private : !subnet.map_public_ip_on_launch])
    error_message = "A rule lets out to a range, or hosts have public addresses."
  }
}

run "one_gateway_for_all_zones" {
  command = plan

  variables {
    nat = "single"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route_table.private) == 1 && keys(aws_vpc_security_group_egress_rule.internet) == ["config-service", "invalidator", "order-service"]
    error_message = "NAT is not one gateway, or others than the callers of APIs get out."
  }
}

run "a_gateway_for_each_zone" {
  command = plan

  variables {
    nat = "per_zone"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 2 && length(aws_route_table.private) == 2
    error_message = "A zone leans on another's gateway."
  }
}

run "a_load_test_reaches_what_it_measures" {
  command = plan

  variables {
    load_test_runner = true
  }

  assert {
    condition = {
      for name, connection in local.connections : connection.to => connection.port... if connection.from == "load-test"
      } == {
      alb            = [80]
      config-service = [50051, 8080]
    }
    error_message = "The load test does not reach balancer, gRPC and metrics, or reaches more."
  }

  assert {
    condition     = contains(output.api_caller_names, "load-test")
    error_message = "The load test cannot call AWS."
  }
}

run "flow_log_for_this_account" {
  command = plan

  variables {
    flow_log_group_arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/tagged-config/flow-logs"
  }

  assert {
    condition     = aws_flow_log.this[0].traffic_type == "ALL" && one(jsondecode(data.aws_iam_policy_document.flow_log.json).Statement).Resource == "${var.flow_log_group_arn}:*"
    error_message = "The flow log is not whole, or may be written elsewhere."
  }

  assert {
    condition     = one(jsondecode(data.aws_iam_policy_document.flow_log_assume.json).Statement).Condition == { StringEquals = { "aws:SourceAccount" = "111122223333" } }
    error_message = "Flow logs of another account could be written with the role."
  }
}

run "a_port_that_does_not_exist_is_refused" {
  command = plan

  variables {
    ports = {
      listener       = 0
      config_http    = 8080
      config_grpc    = 50051
      config_refresh = 50052
      order_http     = 8081
    }
  }

  expect_failures = [var.ports]
}

run "a_small_range_is_refused" {
  command = plan

  variables {
    cidr_block = "10.40.0.0/24"
  }

  expect_failures = [var.cidr_block]
}

run "an_unknown_nat_is_refused" {
  command = plan

  variables {
    nat = "two"
  }

  expect_failures = [var.nat]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
