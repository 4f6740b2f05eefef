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
  name       = "tagged-config"
  account_id = "111122223333"
  region     = "eu-west-1"
}

run "tags_name_one_build_for_good" {
  command = plan

  assert {
    condition = alltrue([
      for repository in aws_ecr_repository.this :
      repository.image_tag_mutability == "IMMUTABLE" && one(repository.image_scanning_configuration).scan_on_push && !repository.force_delete
    ])
    error_message = "A tag can be moved, an image is not scanned, or a repository goes with its images unasked."
  }

  assert {
    condition     = toset([for repository in aws_ecr_repository.this : repository.name]) == toset(["tagged-config/config-service", "tagged-config/order-service"])
    error_message = "The repositories are not the agreed ones."
  }

  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : one(repository.encryption_configuration).encryption_type == "AES256"])
    error_message = "Images are not encrypted."
  }
}

run "old_images_expire" {
  command = plan

  variables {
    kept_images = 5
  }

  assert {
    condition = alltrue([
      for policy in aws_ecr_lifecycle_policy.this : [
        for rule in jsondecode(policy.policy).rules : [rule.selection.tagStatus, rule.selection.countType, rule.selection.countNumber, rule.action.type]
        ] == [
        ["untagged", "sinceImagePushed", 7, "expire"],
        ["any", "imageCountMoreThan", 5, "expire"],
      ]
    ])
    error_message = "Images without a tag, or all but the newest, are not removed."
  }
}

run "images_with_a_key" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-west-1:111122223333:key/1"
  }

  assert {
    condition = alltrue([
      for repository in aws_ecr_repository.this :
      one(repository.encryption_configuration).encryption_type == "KMS" && one(repository.encryption_configuration).kms_key == var.kms_key_arn
    ])
    error_message = "Images are not encrypted with the key."
  }
}

run "the_bucket_is_closed" {
  command = plan

  assert {
    condition = (
      aws_s3_bucket.artifacts.bucket == "tagged-config-artifacts-111122223333-eu-west-1"
      && aws_s3_bucket_public_access_block.artifacts.block_public_acls
      && aws_s3_bucket_public_access_block.artifacts.block_public_policy
      && aws_s3_bucket_public_access_block.artifacts.ignore_public_acls
      && aws_s3_bucket_public_access_block.artifacts.restrict_public_buckets
      && one(aws_s3_bucket_ownership_controls.artifacts.rule).object_ownership == "BucketOwnerEnforced"
    )
    error_message = "The bucket could be made public."
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.artifacts.versioning_configuration).status == "Enabled"
    error_message = "The bucket keeps no versions."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.artifacts.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "The bucket is not encrypted."
  }

  assert {
    condition = jsondecode(data.aws_iam_policy_document.artifacts.json).Statement == [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Action    = "s3:*"
      Principal = "*"
      Resource  = ["arn:aws:s3:::tagged-config-artifacts-111122223333-eu-west-1/*", "arn:aws:s3:::tagged-config-artifacts-111122223333-eu-west-1"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "The bucket answers plain HTTP: ${data.aws_iam_policy_document.artifacts.json}"
  }
}

run "everything_may_go_when_forced" {
  command = plan

  variables {
    force_destroy = true
  }

  assert {
    condition     = aws_s3_bucket.artifacts.force_destroy && alltrue([for repository in aws_ecr_repository.this : repository.force_delete])
    error_message = "What deployments pushed would block a destroy."
  }
}

run "a_long_name_is_refused" {
  command = plan

  variables {
    name = "a-name-that-is-longer-than-24"
  }

  expect_failures = [var.name]
}

run "a_malformed_account_is_refused" {
  command = plan

  variables {
    account_id = "1"
  }

  expect_failures = [var.account_id]
}

run "no_repository_is_refused" {
  command = plan

  variables {
    repositories = []
  }

  expect_failures = [var.repositories]
}

run "a_repository_with_a_path_is_refused" {
  command = plan

  variables {
    repositories = ["a/b"]
  }

  expect_failures = [var.repositories]
}

run "one_image_is_too_few_to_go_back" {
  command = plan

  variables {
    kept_images = 1
  }

  expect_failures = [var.kept_images]
}
