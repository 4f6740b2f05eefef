# The tag `secret_config_*`, where there is a root: config-service reads secrets, and never writes one.

locals {
  secrets_arn = "arn:${data.aws_partition.current.partition}:secretsmanager:${var.region}:${var.account_id}:secret:${coalesce(var.secret_root, "none")}"
}

data "aws_iam_policy_document" "secrets" {
  statement {
    sid       = "ReadSecrets"
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:ListSecretVersionIds"]
    resources = ["${local.secrets_arn}/tenants/*", "${local.secrets_arn}/global/*"]
  }

  statement {
    sid       = "DecryptSecrets"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "secrets" {
  count = var.secret_root == null ? 0 : 1

  name   = "secrets"
  role   = aws_iam_role.task["config-service"].id
  policy = data.aws_iam_policy_document.secrets.json
}
