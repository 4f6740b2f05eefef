variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of the link."

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must name at least 2 subnets, in different zones."
  }
}

variable "security_group_id" {
  type        = string
  description = "Security group of the link: the one that the load balancer admits."
}
