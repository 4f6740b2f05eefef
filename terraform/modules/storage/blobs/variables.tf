variable "name" {
  type        = string
  description = "Prefix of the bucket's name, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "account_id" {
  type        = string
  description = "Account of the bucket: a part of its name."

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "region" {
  type        = string
  description = "Region of the bucket: a part of its name."
}

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts the objects."
}

variable "noncurrent_retention_days" {
  type        = number
  description = "Days that a version is kept after a newer one, or a removal, has taken its place; null to keep all."
  default     = 90
  nullable    = true

  validation {
    condition     = var.noncurrent_retention_days == null ? true : var.noncurrent_retention_days >= 1 && floor(var.noncurrent_retention_days) == var.noncurrent_retention_days
    error_message = "noncurrent_retention_days must be null or a whole number from 1 up."
  }
}

variable "force_destroy" {
  type        = bool
  description = "Whether the bucket may be deleted with what it holds."
  default     = false
}
