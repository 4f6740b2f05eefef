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
  name              = "tagged-config"
  subnet_ids        = ["subnet-1", "subnet-2"]
  security_group_id = "sg-1"
}

run "the_link_is_in_its_group_only" {
  command = plan

  assert {
    condition     = aws_apigatewayv2_vpc_link.this.security_group_ids == toset(["sg-1"]) && aws_apigatewayv2_vpc_link.this.subnet_ids == toset(["subnet-1", "subnet-2"])
    error_message = "The link is in another group than the one that the load balancer admits."
  }
}

run "one_subnet_is_refused" {
  command = plan

  variables {
    subnet_ids = ["subnet-1"]
  }

  expect_failures = [var.subnet_ids]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
