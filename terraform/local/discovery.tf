# Cloud Map without DNS: the emulator creates no private DNS namespaces, and no program here resolves names. The
# DiscoverInstances call finds instances, as on AWS.

resource "aws_service_discovery_http_namespace" "this" {
  name        = var.namespace
  description = "Tagged Config on this machine"
}

resource "aws_service_discovery_service" "this" {
  for_each = toset(["config-service", "order-service"])

  name          = each.key
  description   = "Instances of ${each.key}"
  namespace_id  = aws_service_discovery_http_namespace.this.id
  force_destroy = true
}
