variable "name" {
  type        = string
  description = "Prefix of the role's name."
  default     = "tagged-config"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "region" {
  type        = string
  description = "Region whose settings these are."

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must have the form us-east-1."
  }
}

variable "parameter_store_high_throughput" {
  type        = bool
  description = "Whether Parameter Store's higher, paid throughput is switched on for the account and region. Each environment's variable of that name says that it may count on it."
  default     = false
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role of this module may be allowed; null for none."
  default     = null
  nullable    = true
}
