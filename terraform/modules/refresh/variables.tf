variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "function_name" {
  type        = string
  description = "Name of the invalidator function."

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.function_name))
    error_message = "function_name must be 1 to 64 letters, digits, '_' or '-'."
  }
}

variable "account_id" {
  type        = string
  description = "Account of the queues, the parameters and the function."

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "region" {
  type        = string
  description = "Region of the queues, the parameters and the function."
}

# === function ===

variable "package" {
  type = object({
    filename  = optional(string)
    s3_bucket = optional(string)
    s3_key    = optional(string)
  })
  description = "Zip with the function's `bootstrap`: a local file (`filename`), or an object (`s3_bucket` and `s3_key`)."

  validation {
    condition     = var.package.filename == null ? (var.package.s3_bucket != null && var.package.s3_key != null) : (var.package.s3_bucket == null && var.package.s3_key == null)
    error_message = "package must have either filename, or s3_bucket and s3_key."
  }

  validation {
    condition     = var.package.filename == null ? true : fileexists(var.package.filename)
    error_message = "package.filename does not exist: build the function first."
  }
}

variable "architecture" {
  type        = string
  description = "Instruction set of the function: `arm64` or `x86_64`. The zip must be built for it."
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64."
  }
}

variable "timeout_seconds" {
  type        = number
  description = "Limit of one invocation. It covers the retries that the function makes itself."
  default     = 30

  validation {
    condition     = var.timeout_seconds >= 5 && var.timeout_seconds <= 300
    error_message = "timeout_seconds must lie between 5 and 300."
  }
}

variable "memory_mib" {
  type        = number
  description = "Memory of the function, in MiB; its share of a processor grows with it."
  default     = 256

  validation {
    condition     = var.memory_mib >= 128 && var.memory_mib <= 10240
    error_message = "memory_mib must lie between 128 and 10240."
  }
}

variable "reserved_concurrency" {
  type        = number
  description = "Invocations at a time that are kept for the function and that it may not exceed; -1 for the account's pool."
  default     = -1

  validation {
    condition     = var.reserved_concurrency == -1 || var.reserved_concurrency >= 1
    error_message = "reserved_concurrency must be -1, or 1 and up: 0 would switch the function off."
  }
}

variable "extra_environment" {
  type        = map(string)
  description = "Environment variables beside the function's own, for example the endpoint of an emulator."
  default     = {}
}

variable "log_group_name" {
  type        = string
  description = "Name of the function's log group."
}

variable "log_group_arn" {
  type        = string
  description = "ARN of the function's log group."
}

# === where it runs, whom it calls ===

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of the function."
}

variable "security_group_id" {
  type        = string
  description = "Security group of the function: the one that the refresh port admits."
}

variable "refresh_port" {
  type        = number
  description = "TCP port of config-service's refresh listener."

  validation {
    condition     = var.refresh_port >= 1 && var.refresh_port <= 65535
    error_message = "refresh_port must lie between 1 and 65535."
  }
}

variable "cloud_map_namespace" {
  type        = string
  description = "Name of the Cloud Map namespace in which tasks register."
}

variable "cloud_map_service" {
  type        = string
  description = "Name of config-service in the namespace."
  default     = "config-service"
}

variable "refresh_credential_parameter" {
  type        = string
  description = "Name of the parameter that holds the refresh credential."

  validation {
    condition     = startswith(var.refresh_credential_parameter, "/")
    error_message = "refresh_credential_parameter must be a full name, beginning with '/'."
  }
}

# === sources of change ===

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
  description = "Name of the bucket behind `blob_config_*`, with objects under `tenants/` and `global/`; null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.blob_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.blob_bucket))
    error_message = "blob_bucket must be null or the name of a bucket, without a wildcard."
  }
}

variable "secret_root" {
  type        = string
  description = "Prefix of the names of secrets behind `secret_config_*` (`<root>/tenants/<tenant>/<name>`, `<root>/global/<name>`); null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.secret_root == null || can(regex("^[A-Za-z0-9_+=.@-]+(/[A-Za-z0-9_+=.@-]+){0,3}$", var.secret_root))
    error_message = "secret_root must be null or 1 to 4 segments of letters, digits and '_+=.@-', joined by '/', without a '/' at either end."
  }
}

variable "table_name" {
  type        = string
  description = "Name of the configuration table."
}

variable "journal_table_name" {
  type        = string
  description = "Name of the change journal's table."
}

variable "journal_table_arn" {
  type        = string
  description = "ARN of the change journal's table."
}

variable "history_table_name" {
  type        = string
  description = "Name of the history's table."
}

variable "history_table_arn" {
  type        = string
  description = "ARN of the history's table."
}

variable "history_retention_days" {
  type        = number
  description = "Days that a change stays in the history."
  default     = 90

  validation {
    condition     = var.history_retention_days >= 1 && var.history_retention_days <= 3650 && floor(var.history_retention_days) == var.history_retention_days
    error_message = "history_retention_days must be a whole number, 1 to 3650."
  }
}

variable "table_stream_arn" {
  type        = string
  description = "ARN of the configuration table's stream."
}

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts tables, SecureString parameters, blobs and secrets."
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role of this module may be allowed; null for none."
  default     = null
  nullable    = true
}
