# The tag `blob_config_*`, where there is a bucket: config-service writes tenants' objects, and reads shared ones.

locals {
  blob_bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${coalesce(var.blob_bucket, "none")}"
}

data "aws_iam_policy_document" "blobs" {
  statement {
    sid       = "TenantsBlobs"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
    resources = ["${local.blob_bucket_arn}/tenants/*"]
  }

  statement {
    sid       = "ReadSharedBlobs"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${local.blob_bucket_arn}/global/*"]
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

  # Versions of an object. Such a call has a prefix always.
  statement {
    sid       = "ListVersionsOfBlobs"
    actions   = ["s3:ListBucketVersions"]
    resources = [local.blob_bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["tenants/*", "global/*"]
    }
  }

  statement {
    sid       = "EncryptBlobs"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
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
  role   = aws_iam_role.task["config-service"].id
  policy = data.aws_iam_policy_document.blobs.json
}
