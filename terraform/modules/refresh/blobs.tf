# The tag `blob_config_*`, where there is a bucket: the rule on its events, and what the invalidator may read of it.

locals {
  blob_bucket_arn = "arn:${local.partition}:s3:::${coalesce(var.blob_bucket, "none")}"

  blob_rules = var.blob_bucket == null ? {} : {
    blob-change = {
      description = "A configuration object was written or removed"
      pattern = jsonencode({
        source      = ["aws.s3"]
        detail-type = ["Object Created", "Object Deleted"]
        detail = {
          bucket = { name = [var.blob_bucket] }
          object = { key = [{ prefix = "tenants/" }, { prefix = "global/" }] }
        }
      })
    }
  }
}

data "aws_iam_policy_document" "blobs" {
  statement {
    sid       = "ReadBlobs"
    actions   = ["s3:GetObject"]
    resources = ["${local.blob_bucket_arn}/tenants/*", "${local.blob_bucket_arn}/global/*"]
  }

  # A read of a missing object answers 404 to whoever may list, and 403 to others. Such a read has no prefix: hence IfExists.
  statement {
    sid       = "ListBlobs"
    actions   = ["s3:ListBucket"]
    resources = [local.blob_bucket_arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["tenants/*", "global/*"]
    }
  }

  statement {
    sid       = "DecryptBlobs"
    actions   = ["kms:Decrypt"]
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
  role   = aws_iam_role.invalidator.id
  policy = data.aws_iam_policy_document.blobs.json
}
