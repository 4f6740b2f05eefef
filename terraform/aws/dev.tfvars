# Cheap, and gone without a trace by `make destroy`.
environment         = "dev"
deletion_protection = false

table_name     = "TenantConfigurations-dev"
parameter_root = "/tagged-config-dev/config"

availability_zone_count  = 2
key_deletion_window_days = 7
log_retention_days       = 7

tasks = {
  config-service = { cpu = 256, memory_mib = 512, min = 2, max = 4 }
  order-service  = { cpu = 256, memory_mib = 512, min = 1, max = 2 }
}
cache_bytes  = 134217728
spot_percent = 80
