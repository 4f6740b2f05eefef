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

variable "vpc_id" {
  type        = string
  description = "VPC of the endpoints."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of the interface endpoints."
}

variable "route_table_ids" {
  type        = list(string)
  description = "Route tables of the gateway endpoints."
}

variable "caller_security_group_ids" {
  type        = map(string)
  description = "Security groups that may call AWS APIs, by name."
}

variable "interface_endpoints" {
  type = map(list(object({
    sid           = string
    actions       = list(string)
    resources     = list(string)
    any_principal = optional(bool, false)
  })))
  description = "Interface endpoints by service (`ecr.api`, `ssm`, ...), each with the statements of its policy. A statement holds for principals of the account, or for all (`any_principal`)."
}

variable "gateway_endpoints" {
  type = map(list(object({
    sid           = string
    actions       = list(string)
    resources     = list(string)
    any_principal = optional(bool, false)
  })))
  description = "Gateway endpoints by service: `s3`, `dynamodb`; statements as above."

  validation {
    condition     = length(setsubtract(keys(var.gateway_endpoints), ["s3", "dynamodb"])) == 0
    error_message = "gateway_endpoints may have the keys s3 and dynamodb: AWS has no other gateway endpoints."
  }
}

variable "gateway_callers" {
  type        = map(set(string))
  description = "Who may reach each gateway endpoint: by service, keys of caller_security_group_ids."

  validation {
    condition     = toset(keys(var.gateway_callers)) == toset(keys(var.gateway_endpoints))
    error_message = "gateway_callers must have the keys of gateway_endpoints."
  }

  validation {
    condition     = alltrue([for callers in values(var.gateway_callers) : length(setsubtract(callers, keys(var.caller_security_group_ids))) == 0])
    error_message = "gateway_callers must name keys of caller_security_group_ids."
  }
}
