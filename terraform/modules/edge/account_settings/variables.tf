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

variable "parameter_store_high_throughput" {
  type        = bool
  description = "Whether Parameter Store's higher, paid throughput is switched on for the account."
  default     = false
}
