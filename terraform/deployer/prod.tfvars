environment    = "prod"
table_name     = "TenantConfigurations"
parameter_root = "/tagged-config-prod/config"
