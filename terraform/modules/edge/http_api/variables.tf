variable "name" {
  type        = string
  description = "Name of the API."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,63}$", var.name))
    error_message = "name must be 2 to 64 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "issuer" {
  type        = string
  description = "Issuer whose tokens the API admits."

  validation {
    condition     = startswith(var.issuer, "https://")
    error_message = "issuer must be an https:// URL."
  }
}

variable "audience" {
  type        = string
  description = "Audience that a token must carry: the app client's id."
}

variable "integration" {
  type = object({
    uri             = string
    connection_type = string
    connection_id   = optional(string)
    tls_server_name = optional(string)
  })
  description = "Where requests go: `VPC_LINK` with the load balancer's listener ARN and a link's id, or `INTERNET` with a base URL to which the request's path is appended (emulators only: AWS would not append it)."

  validation {
    condition     = contains(["VPC_LINK", "INTERNET"], var.integration.connection_type)
    error_message = "integration.connection_type must be VPC_LINK or INTERNET."
  }
}

variable "access_log_group_arn" {
  type        = string
  description = "ARN of the log group of the access log; null for none."
  default     = null
  nullable    = true
}

variable "throttle" {
  type = object({
    requests_per_second = number
    burst               = number
  })
  description = "Requests that all callers together may make; null for the account's limits."
  default     = null
  nullable    = true
}

variable "allowed_origins" {
  type        = list(string)
  description = "Origins whose web pages may call the API, for example `https://app.example.com`; none by default."
  default     = []

  validation {
    condition     = alltrue([for origin in var.allowed_origins : can(regex("^https?://[a-z0-9.-]+(:[0-9]+)?$", origin))])
    error_message = "allowed_origins must be origins such as https://app.example.com, in lower case and without a trailing slash."
  }
}
