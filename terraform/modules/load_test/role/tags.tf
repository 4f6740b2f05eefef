# The optional tags, where their stores are: blobs and secrets of the load test's own tenants.

locals {
  blob_bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${coalesce(var.blob_bucket, "none")}"
  secrets_arn     = "arn:${data.aws_partition.current.partition}:secretsmanager:${var.region}:${var.account_id}:secret:${coalesce(var.secret_root, "none")}"
}

data "aws_iam_policy_document" "blobs" {
  statement {
    sid       = "TestBlobs"
    actions   = ["s3:DeleteObject", "s3:PutObject"]
    resources = ["${local.blob_bucket_arn}/tenants/lt-*"]
  }

  statement {
    sid       = "EncryptBlobs"
    actions   = ["kms:GenerateDataKey"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "blobs" {
  count = var.blob_bucket == null ? 0 : 1

  name   = "blobs"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.blobs.json
}

# The secrets are encrypted with the key that AWS manages for Secrets Manager, whose policy allows it.
data "aws_iam_policy_document" "secrets" {
  statement {
    sid       = "TestSecrets"
    actions   = ["secretsmanager:CreateSecret", "secretsmanager:DeleteSecret"]
    resources = ["${local.secrets_arn}/tenants/lt-*"]
  }
}

resource "aws_iam_role_policy" "secrets" {
  count = var.secret_root == null ? 0 : 1

  name   = "secrets"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.secrets.json
}
