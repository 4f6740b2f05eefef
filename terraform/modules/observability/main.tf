# What is kept (log groups) and what whoever is on call looks at first (dashboard.tf). What wakes that person is the
# module below this one (`alarms`): the local root has nobody to wake.

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:How long logs are kept is a variable: a day locally, weeks in dev, a year in prod.
  #checkov:skip=CKV_AWS_158:Encrypted with the key that the root hands in (module key); the emulator has none.
  for_each = var.log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
}
