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

run "refresh_port_admits_the_invalidator_only" {
  command = plan

  assert {
    condition = [
      for name, rule in aws_vpc_security_group_ingress_rule.connection : name
      if rule.from_port <= 50052 && rule.to_port >= 50052
    ] == ["invalidator-to-refresh"]
    error_message = "A rule beside the invalidator's reaches the refresh port."
  }

  assert {
    condition     = local.connections["invalidator-to-refresh"].from == "invalidator"
    error_message = "The refresh port is open to someone else."
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
