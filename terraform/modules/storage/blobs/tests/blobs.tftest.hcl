# Plans only, with keys that mean nothing: no call leaves the machine.
provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  name        = "tagged-config"
  account_id  = "111122223333"
  region      = "eu-west-1"
  kms_key_arn = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"
}

run "objects_are_encrypted_with_the_given_key" {
  command = plan

  assert {
    condition = one([
      for rule in aws_s3_bucket_server_side_encryption_configuration.this.rule : rule.bucket_key_enabled
      && one(rule.apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
      && one(rule.apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn
    ])
    error_message = "Objects are encrypted with another key, or each one calls KMS."
  }
}

run "requests_without_tls_are_refused" {
  command = plan

  assert {
    condition = one(jsondecode(data.aws_iam_policy_document.bucket.json).Statement) == {
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["${output.bucket_arn}/*", output.bucket_arn]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }
    error_message = "The bucket can be reached without TLS: ${data.aws_iam_policy_document.bucket.json}"
  }
}

run "nothing_is_public" {
  command = plan

  assert {
    condition = (
      aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy
      && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    )
    error_message = "The bucket can be made public."
  }

  assert {
    condition     = one(aws_s3_bucket_ownership_controls.this.rule).object_ownership == "BucketOwnerEnforced"
    error_message = "An object could belong to who wrote it, or have a list of its own of who may read it."
  }
}

run "old_versions_are_kept_for_a_while" {
  command = plan

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    error_message = "A write destroys the version before."
  }

  assert {
    condition = one([
      for rule in aws_s3_bucket_lifecycle_configuration.this[0].rule : rule.status == "Enabled" && length(rule.expiration) == 0
      && one(rule.noncurrent_version_expiration).noncurrent_days == 90 && one(rule.abort_incomplete_multipart_upload).days_after_initiation == 1
    ])
    error_message = "Versions go at another time, an object goes by itself, or parts of uploads stay."
  }

  assert {
    condition     = !aws_s3_bucket.this.force_destroy
    error_message = "By default the bucket is deleted with what it holds."
  }
}

run "how_long_is_an_input" {
  command = plan

  variables {
    noncurrent_retention_days = 7
    force_destroy             = true
  }

  assert {
    condition     = one(one(aws_s3_bucket_lifecycle_configuration.this[0].rule).noncurrent_version_expiration).noncurrent_days == 7 && aws_s3_bucket.this.force_destroy
    error_message = "The inputs are not followed."
  }
}

run "all_versions_can_be_kept" {
  command = plan

  variables {
    noncurrent_retention_days = null
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this) == 0
    error_message = "Versions go, though all are to be kept."
  }
}

run "changes_are_announced" {
  command = plan

  assert {
    condition     = aws_s3_bucket_notification.this.eventbridge
    error_message = "A change would be found by the TTL only."
  }
}

run "the_name_is_the_deployers" {
  command = plan

  assert {
    condition     = output.bucket_name == "tagged-config-blobs-111122223333-eu-west-1" && output.bucket_arn == "arn:aws:s3:::${output.bucket_name}"
    error_message = "terraform/deployer permits another name."
  }
}

run "no_retention_at_all_is_refused" {
  command = plan

  variables {
    noncurrent_retention_days = 0
  }

  expect_failures = [var.noncurrent_retention_days]
}

run "a_malformed_account_is_refused" {
  command = plan

  variables {
    account_id = "1"
  }

  expect_failures = [var.account_id]
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}
