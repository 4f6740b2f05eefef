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

variable "issuer" {
  type        = string
  description = "Issuer whose keys are copied."

  validation {
    condition     = startswith(var.issuer, "https://")
    error_message = "issuer must be an https:// URL."
  }
}

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

variable "reserved_concurrency" {
  type        = number
  description = "Invocations at a time that are kept for the function; -1 for the account's pool."
  default     = -1

  validation {
    condition     = var.reserved_concurrency >= -1 && var.reserved_concurrency <= 1000
    error_message = "reserved_concurrency must lie between -1 and 1000."
  }
}

variable "log_group_name" {
  type        = string
  description = "Name of the function's log group."
}

variable "log_group_arn" {
  type        = string
  description = "ARN of the function's log group."
}

variable "force_destroy" {
  type        = bool
  description = "Whether the bucket may be deleted with what it holds. It holds a copy."
  default     = true
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role of this module may be allowed; null for none."
  default     = null
  nullable    = true
}
