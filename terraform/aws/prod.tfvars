# Safe: three zones, nothing that holds data can be deleted by accident, no task on Spot. Alarms need a receiver:
# VARS='alert_emails=["oncall@example.com"]', or alert_topic_arns.
environment         = "prod"
deletion_protection = true

table_name     = "TenantConfigurations"
parameter_root = "/tagged-config-prod/config"

availability_zone_count  = 3
key_deletion_window_days = 30
log_retention_days       = 365
mfa                      = "ON"

tasks = {
  config-service = { cpu = 1024, memory_mib = 2048, min = 3, max = 20 }
  order-service  = { cpu = 512, memory_mib = 1024, min = 3, max = 20 }
}
