variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "account_id" {
  type        = string
  description = "Account of these resources."

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "region" {
  type        = string
  description = "Region of these resources."
}

variable "user_pool_arn" {
  type        = string
  description = "ARN of the user pool, for test users."
}

variable "table_arn" {
  type        = string
  description = "ARN of the configuration table."
}

variable "parameter_root" {
  type        = string
  description = "Path in Parameter Store under which configuration lies."

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){1,4}$", var.parameter_root))
    error_message = "parameter_root must be 1 to 4 segments of letters, digits, '_', '.' and '-', each after a '/', without a trailing '/'."
  }
}

variable "blob_bucket" {
  type        = string
  description = "Name of the bucket behind `blob_config_*`; null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.blob_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.blob_bucket))
    error_message = "blob_bucket must be null or the name of a bucket, without a wildcard."
  }
}

variable "secret_root" {
  type        = string
  description = "Prefix of the names of secrets behind `secret_config_*`; null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.secret_root == null || can(regex("^[A-Za-z0-9_+=.@-]+(/[A-Za-z0-9_+=.@-]+){0,3}$", var.secret_root))
    error_message = "secret_root must be null or 1 to 4 segments of letters, digits and '_+=.@-', joined by '/', without a '/' at either end."
  }
}

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts the table and blobs."
}

variable "cloud_map_namespace" {
  type        = string
  description = "Name of the Cloud Map namespace."
}

variable "invalidator_log_group_arn" {
  type        = string
  description = "ARN of the invalidator's log group, for its receipts."
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role of this module may be allowed; null for none."
  default     = null
  nullable    = true
}
