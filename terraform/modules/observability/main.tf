# What is kept (log groups) and what whoever is on call looks at first (dashboard.tf). What wakes that person is the
# module below this one (`alarms`): the local root has nobody to wake.

resource "aws_cloudwatch_log_group" "this" {
  for_each = var.log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
}
