variable "name" {
  type        = string
  description = "Name of the web ACL."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,63}$", var.name))
    error_message = "name must be 2 to 64 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "protected_resources" {
  type        = map(string)
  description = "ARNs that the web ACL guards, keyed by meaning: a REST API's stage, or a load balancer. WAF takes no HTTP API."
}

variable "forwarded_ip_header" {
  type        = string
  description = "Header that names the client where the guarded resource sees a proxy's address (a load balancer behind an HTTP API); null where it sees the client."
  default     = null
  nullable    = true

  validation {
    condition     = var.forwarded_ip_header == null || can(regex("^[A-Za-z0-9-]{1,255}$", var.forwarded_ip_header))
    error_message = "forwarded_ip_header must be null or a header's name, for example X-Client-Ip."
  }
}

variable "path_prefix" {
  type        = string
  description = "What the guarded resource may see before every path: a REST API's stage, such as `/live`; null for nothing."
  default     = null
  nullable    = true

  validation {
    condition     = var.path_prefix == null || can(regex("^/[A-Za-z0-9_-]+$", var.path_prefix))
    error_message = "path_prefix must be null or one segment such as /live."
  }
}

variable "requests_per_5_minutes" {
  type        = number
  description = "Requests that one client address may make in any 5 minutes before it is blocked."
  default     = 20000

  validation {
    condition     = var.requests_per_5_minutes >= 10 && var.requests_per_5_minutes <= 2000000000
    error_message = "requests_per_5_minutes must lie between 10 and 2000000000."
  }
}

variable "unlimited_cidr_blocks" {
  type        = list(string)
  description = "IPv4 ranges that the rate limit leaves out, for load tests. All other rules hold for them too."
  default     = []

  validation {
    condition     = alltrue([for block in var.unlimited_cidr_blocks : can(cidrhost(block, 0)) && block != "0.0.0.0/0"])
    error_message = "unlimited_cidr_blocks must be IPv4 CIDR blocks, and not 0.0.0.0/0."
  }
}

variable "log_group_arn" {
  type        = string
  description = "ARN of a log group whose name begins with aws-waf-logs-, for blocked and counted requests; null for none."
  default     = null
  nullable    = true

  validation {
    condition     = var.log_group_arn == null || can(regex(":log-group:aws-waf-logs-", var.log_group_arn))
    error_message = "log_group_arn must be null or a log group named aws-waf-logs-...: WAF takes no other."
  }
}
