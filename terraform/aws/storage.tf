# The stores: the configuration table, the change journal, shared defaults, and the key that encrypts them.

module "storage" {
  source = "../modules/storage"

  name                     = local.name
  table_name               = var.table_name
  journal_table_name       = "${var.table_name}Journal"
  parameter_root           = var.parameter_root
  global_defaults          = var.global_defaults
  deletion_protection      = var.deletion_protection
  key_deletion_window_days = var.key_deletion_window_days
}

module "refresh_credential" {
  source = "../modules/refresh/credential"

  name           = "/${local.name}/internal/refresh-credential"
  parameter_root = module.storage.parameter_root
  kms_key_arn    = module.storage.kms_key_arn
  generation     = var.refresh_credential_generation
}
