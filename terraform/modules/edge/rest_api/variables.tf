variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "user_pool_arn" {
  type        = string
  description = "ARN of the user pool whose ID tokens the API admits."
}

variable "client_id" {
  type        = string
  description = "Id of the app client: the only audience that is admitted."
}

variable "vpc_link_id" {
  type        = string
  description = "Id of the VPC link (V2)."
}

variable "alb_arn" {
  type        = string
  description = "ARN of the internal load balancer."
}

variable "alb_url" {
  type        = string
  description = "Base URL of the load balancer, without a trailing slash. API Gateway takes the Host header and, with https, the name in the certificate from it."

  validation {
    condition     = can(regex("^https?://[A-Za-z0-9.-]+(:[0-9]+)?$", var.alb_url))
    error_message = "alb_url must have the form http://name or https://name:port, without a trailing slash."
  }
}

variable "stage_name" {
  type        = string
  description = "Name of the stage: the first segment of every path."
  default     = "live"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,128}$", var.stage_name))
    error_message = "stage_name must be 1 to 128 letters, digits, hyphens and underscores."
  }
}

variable "access_log_group_arn" {
  type        = string
  description = "ARN of the log group of the access log; null for none. The account must have a role for it (terraform/account)."
  default     = null
  nullable    = true
}

variable "requests_per_second" {
  type        = number
  description = "Sustained requests per second that all callers together may make."
  default     = 2000

  validation {
    condition     = var.requests_per_second >= 1 && var.requests_per_second <= 10000
    error_message = "requests_per_second must lie between 1 and 10000, the account's default limit."
  }
}

variable "burst" {
  type        = number
  description = "Requests that may come at once beyond the sustained rate."
  default     = 1000

  validation {
    condition     = var.burst >= 1 && var.burst <= 5000
    error_message = "burst must lie between 1 and 5000, the account's default limit."
  }
}

variable "tracing" {
  type        = bool
  description = "Whether X-Ray samples requests."
  default     = true
}

variable "allowed_origins" {
  type        = list(string)
  description = "Origins whose web pages may call the API, for example `https://app.example.com`; none by default. The services answer preflights, and need the same list."
  default     = []

  validation {
    condition     = alltrue([for origin in var.allowed_origins : can(regex("^https?://[a-z0-9.-]+(:[0-9]+)?$", origin))])
    error_message = "allowed_origins must be origins such as https://app.example.com, in lower case and without a trailing slash."
  }
}
