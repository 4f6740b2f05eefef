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

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts the topic; CloudWatch must be allowed to use it (module `key`)."
}

variable "emails" {
  type        = set(string)
  description = "Mail addresses that receive alarms."
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "emails must be mail addresses."
  }
}
