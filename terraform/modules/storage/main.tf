# Where configuration lies: tenants' own in the table, shared defaults and overrides in Parameter Store. Beside it the change
# journal, and the history of changes.

resource "aws_dynamodb_table" "this" {
  name         = var.table_name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "PK"
  range_key    = "SK"

  # Both images: the new one is applied without a read, the old one has the version of a removal.
  stream_enabled   = true
  stream_view_type = "NEW_AND_OLD_IMAGES"

  deletion_protection_enabled = var.deletion_protection

  # PK = TENANT#<tenant>, SK = CONFIG#<name>; of a schema that guards keys PK = TENANT#<tenant> or GLOBAL, SK = SCHEMA#<name>.
  attribute {
    name = "PK"
    type = "S"
  }

  attribute {
    name = "SK"
    type = "S"
  }

  # No time to live: DynamoDB removes an expired item within days, and would serve it meanwhile.

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = aws_kms_key.this.arn
  }
}

# The change journal: which locations changed, never what they hold. PK = <minute>#<shard>, SK = <unix milliseconds>#<id>; the mark
# of a deletion PK = deletions#<shard>, SK = <id>.
# Every task reads it every few seconds; no stream, so that it causes no changes itself. Entries live an hour, so that nothing
# here is worth protecting from deletion.
resource "aws_dynamodb_table" "journal" {
  #checkov:skip=CKV_AWS_28:An entry is of use for seconds and lives an hour; there is nothing to recover.
  name         = var.journal_table_name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "PK"
  range_key    = "SK"

  attribute {
    name = "PK"
    type = "S"
  }

  attribute {
    name = "SK"
    type = "S"
  }

  ttl {
    attribute_name = "expiresAt"
    enabled        = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = aws_kms_key.this.arn
  }
}

# The history: every change with who, when, and the value. PK = TENANT#<tenant> or GLOBAL, SK = <key>#<unix milliseconds, 13
# digits>#<id>. Entries are only ever inserted, and the time to live ends them: no role of the deployment may change or delete
# one. No stream, since no cache holds an entry.
resource "aws_dynamodb_table" "history" {
  name         = var.history_table_name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "PK"
  range_key    = "SK"

  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "PK"
    type = "S"
  }

  attribute {
    name = "SK"
    type = "S"
  }

  # When the change was made.
  attribute {
    name = "at"
    type = "S"
  }

  # A tenant's changes of all keys in the order of their time. It has everything that an answer shows but the value, which is read
  # from the table. Another projection is another index: AWS changes none in place.
  global_secondary_index {
    name            = "ByTime"
    hash_key        = "PK"
    range_key       = "at"
    projection_type = "INCLUDE"
    non_key_attributes = [
      "key", "version", "previous", "operation", "by", "role", "requestId", "note", "size", "hash", "contentType", "source",
    ]
  }

  ttl {
    attribute_name = "expiresAt"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = aws_kms_key.this.arn
  }
}

resource "aws_ssm_parameter" "global" {
  #checkov:skip=CKV2_AWS_34:Shared defaults are no secret: every tenant reads them.
  for_each = var.global_defaults

  name        = "${var.parameter_root}/global/${each.key}"
  description = "Shared default; a tenant may override it under ${var.parameter_root}/tenants/<tenant>/."
  type        = "String"
  value       = each.value

  lifecycle {
    ignore_changes = [value]
  }
}
