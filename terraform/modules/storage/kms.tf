# One key for what tenants entrust to the service: tables, SecureString parameters, blobs and secrets. No policy of its own: the
# default one hands the decision to IAM, where each role says which key it may use, and through which service.

resource "aws_kms_key" "this" {
  #checkov:skip=CKV2_AWS_64:The default policy is meant: it leaves the decision to IAM, and locks no one out.
  description             = "${var.name}: tenant configuration at rest"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_window_days
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}
