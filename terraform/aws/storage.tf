# The stores: the configuration table, the change journal, the history, shared defaults, blobs, and the key that encrypts them and secrets.

module "storage" {
  source = "../modules/storage"

  name                     = local.name
  table_name               = var.table_name
  journal_table_name       = "${var.table_name}Journal"
  history_table_name       = "${var.table_name}History"
  parameter_root           = var.parameter_root
  global_defaults          = var.global_defaults
  deletion_protection      = var.deletion_protection
  key_deletion_window_days = var.key_deletion_window_days
}

# The tag `blob_config_*`, if `blobs` is set.
module "blobs" {
  source = "../modules/storage/blobs"
  count  = var.blobs ? 1 : 0

  name                      = local.name
  account_id                = local.account_id
  region                    = var.region
  kms_key_arn               = module.storage.kms_key_arn
  noncurrent_retention_days = var.blob_noncurrent_retention_days
  force_destroy             = !var.deletion_protection
}

locals {
  blob_bucket = one(module.blobs[*].bucket_name)

  # The tag `secret_config_*`, if `secrets` is set. Operators make the secrets, so that no state and no plan holds one.
  secret_root = var.secrets ? "${local.name}/config" : null
  secrets_arn = var.secrets ? "arn:${local.partition}:secretsmanager:${var.region}:${local.account_id}:secret:${local.secret_root}" : null
}

module "refresh_credential" {
  source = "../modules/refresh/credential"

  name           = "/${local.name}/internal/refresh-credential"
  parameter_root = module.storage.parameter_root
  kms_key_arn    = module.storage.kms_key_arn
  generation     = var.refresh_credential_generation
}
