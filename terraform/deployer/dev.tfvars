environment    = "dev"
table_name     = "TenantConfigurations-dev"
parameter_root = "/tagged-config-dev/config"
