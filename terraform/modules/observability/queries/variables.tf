variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "log_group_names" {
  type        = map(string)
  description = "Name of each log group, by what writes to it."

  validation {
    condition     = length(setsubtract(["config-service", "order-service", "invalidator", "jwks-mirror", "api", "waf"], keys(var.log_group_names))) == 0
    error_message = "log_group_names must have the keys config-service, order-service, invalidator, jwks-mirror, api and waf."
  }
}
