# How tasks are found: a private DNS namespace in Cloud Map. order-service resolves names; the invalidator uses the
# DiscoverInstances call, since DNS answers with eight addresses at most.

resource "aws_service_discovery_private_dns_namespace" "this" {
  name        = var.namespace
  description = "Tagged Config: tasks"
  vpc         = var.vpc_id
}

resource "aws_service_discovery_service" "this" {
  for_each = toset(["config-service", "order-service"])

  name          = each.key
  description   = "Tasks of ${each.key}"
  force_destroy = true

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.this.id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      ttl  = var.ttl_seconds
    }
  }

  # ECS reports each task's health itself.
  health_check_custom_config {
    failure_threshold = 1
  }
}
