# Log groups with their retention, and the dashboard (dashboard.tf), which an operator on call reads first. Alarms are the
# module `alarms` below this one, since the local root has none.

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:How long logs are kept is a variable: a day locally, weeks in dev, a year in prod.
  #checkov:skip=CKV_AWS_158:Encrypted with the key that the root hands in (module key); the emulator has none.
  for_each = var.log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
}
