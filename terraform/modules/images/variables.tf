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

variable "repositories" {
  type        = set(string)
  description = "Programs that have an image."
  default     = ["config-service", "order-service"]

  validation {
    condition     = length(var.repositories) > 0
    error_message = "repositories must name at least one program."
  }

  validation {
    condition     = alltrue([for program in var.repositories : can(regex("^[a-z][a-z0-9-]+$", program))])
    error_message = "repositories must be lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "kept_images" {
  type        = number
  description = "Images that are kept for each program: as far as a rollback can go."
  default     = 30

  validation {
    condition     = var.kept_images >= 2 && var.kept_images <= 1000
    error_message = "kept_images must lie between 2 and 1000."
  }
}

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts images; null for a key of ECR. Another one makes new repositories."
  default     = null
  nullable    = true
}

variable "force_destroy" {
  type        = bool
  description = "Whether repositories and bucket may be deleted with what they hold."
  default     = false
}
