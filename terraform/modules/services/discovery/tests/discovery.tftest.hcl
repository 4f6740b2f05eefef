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
  namespace = "tagged-config.internal"
  vpc_id    = "vpc-1"
}

run "tasks_are_found_by_name" {
  command = plan

  assert {
    condition     = aws_service_discovery_private_dns_namespace.this.name == "tagged-config.internal" && aws_service_discovery_private_dns_namespace.this.vpc == "vpc-1"
    error_message = "The namespace is not the VPC's."
  }

  assert {
    condition     = toset([for service in aws_service_discovery_service.this : service.name]) == toset(["config-service", "order-service"])
    error_message = "The services are not the agreed two."
  }

  assert {
    condition = alltrue([
      for service in aws_service_discovery_service.this :
      one(service.dns_config).routing_policy == "MULTIVALUE"
      && one(one(service.dns_config).dns_records).type == "A"
      && one(one(service.dns_config).dns_records).ttl == 5
    ])
    error_message = "Names do not resolve to all tasks, or their answers are kept for long."
  }

  assert {
    condition = alltrue([
      for service in aws_service_discovery_service.this : one(service.health_check_custom_config).failure_threshold == 1
    ])
    error_message = "ECS could not report a task's health."
  }
}

run "a_name_of_one_label_is_refused" {
  command = plan

  variables {
    namespace = "internal"
  }

  expect_failures = [var.namespace]
}

run "a_long_answer_is_refused" {
  command = plan

  variables {
    ttl_seconds = 300
  }

  expect_failures = [var.ttl_seconds]
}
