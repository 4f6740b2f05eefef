variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "parameter_store_high_throughput" {
  type        = bool
  description = "Whether Parameter Store's higher, paid throughput is switched on for the account."
  default     = false
}
