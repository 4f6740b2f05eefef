variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "cidr_block" {
  type        = string
  description = "IPv4 range of the VPC. Each subnet takes a sixteenth of it."
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr_block, 0)) && try(tonumber(split("/", var.cidr_block)[1]) <= 22, false)
    error_message = "cidr_block must be an IPv4 CIDR block of /22 or larger, for example 10.40.0.0/16."
  }
}

variable "availability_zones" {
  type        = list(string)
  description = "Availability zones to place one private subnet in each. The order fixes each subnet's range."

  validation {
    condition     = contains([2, 3], length(distinct(var.availability_zones)))
    error_message = "availability_zones must name 2 or 3 different zones."
  }
}

variable "dns_hostnames" {
  type        = bool
  description = "Whether hosts in the VPC get DNS names. Interface endpoints answer under AWS's own names only with it."
  default     = true
}

variable "ports" {
  type = object({
    listener       = number
    config_http    = number
    config_grpc    = number
    config_refresh = number
    order_http     = number
  })
  description = "TCP ports of the path: load balancer listener, and each service's listeners."

  validation {
    condition     = alltrue([for port in values(var.ports) : port >= 1 && port <= 65535])
    error_message = "ports must each lie between 1 and 65535."
  }

  validation {
    condition     = length(distinct([var.ports.config_http, var.ports.config_grpc, var.ports.config_refresh])) == 3
    error_message = "ports must give config-service three different ports: the refresh port is admitted to the invalidator and to config-service only."
  }
}

variable "nat" {
  type        = string
  description = "NAT gateways: `none`, `single` (one for all zones) or `per_zone`. Nothing in this project needs one."
  default     = "none"

  validation {
    condition     = contains(["none", "single", "per_zone"], var.nat)
    error_message = "nat must be none, single or per_zone."
  }
}

variable "flow_log_group_arn" {
  type        = string
  description = "ARN of the log group of the flow log; null for none."
  default     = null
  nullable    = true
}

variable "load_test_runner" {
  type        = bool
  description = "Whether a load test may run in the VPC: a security group of its own, which load balancer and services then admit."
  default     = false
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role of this module may be allowed; null for none."
  default     = null
  nullable    = true
}
