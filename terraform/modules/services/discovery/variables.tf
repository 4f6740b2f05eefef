variable "namespace" {
  type        = string
  description = "Name of the private DNS namespace, for example `tagged-config-dev.internal`."

  validation {
    condition     = can(regex("^[a-z0-9-]+([.][a-z0-9-]+)+$", var.namespace))
    error_message = "namespace must be a DNS name of at least two labels, for example tagged-config-dev.internal."
  }
}

variable "vpc_id" {
  type        = string
  description = "VPC in which the names resolve."
}

variable "ttl_seconds" {
  type        = number
  description = "How long an answer may be cached. For that time, callers may still use addresses of stopped tasks."
  default     = 5

  validation {
    condition     = var.ttl_seconds >= 1 && var.ttl_seconds <= 60
    error_message = "ttl_seconds must lie between 1 and 60."
  }
}
