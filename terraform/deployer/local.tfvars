# terraform/local on an emulator, whose every account id is this one.
environment    = "local"
table_name     = "TenantConfigurations"
parameter_root = "/tagged-config/config"
principal_arns = ["arn:aws:iam::000000000000:root"]
require_mfa    = false
