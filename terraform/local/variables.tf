variable "emulator_url" {
  type        = string
  description = "Base URL of the emulator, as seen from this machine and from the functions that the emulator runs."
  default     = "http://127.0.0.1:4566"

  validation {
    condition     = can(regex("^http://[A-Za-z0-9.-]+:[0-9]+$", var.emulator_url))
    error_message = "emulator_url must have the form http://host:port, without a trailing '/'."
  }
}

variable "stores_url" {
  type        = string
  description = "Base URL of another emulator that has the stores, the events and the functions; null: it is the same one."
  default     = null

  validation {
    condition     = var.stores_url == null || can(regex("^http://[A-Za-z0-9.-]+:[0-9]+$", var.stores_url))
    error_message = "stores_url must have the form http://host:port, without a trailing '/'."
  }
}

variable "region" {
  type        = string
  description = "Region that the emulator plays."
  default     = "us-east-1"
}

variable "name" {
  type        = string
  description = "Prefix of every name."
  default     = "tagged-config"
}

variable "namespace" {
  type        = string
  description = "Name of the Cloud Map namespace."
  default     = "tagged-config"
}

variable "table_name" {
  type        = string
  description = "Name of the table that holds tenants' configuration."
  default     = "TenantConfigurations"
}

variable "parameter_root" {
  type        = string
  description = "Path in Parameter Store under which configuration lies."
  default     = "/tagged-config/config"
}

variable "global_defaults" {
  type        = map(string)
  description = "Shared defaults under `<root>/global/`, name to JSON value."
  default = {
    "tax/rate"         = "0.20"
    "currency/default" = "\"USD\""
  }
}

variable "history_retention_days" {
  type        = number
  description = "Days that a change stays in the history; then DynamoDB removes it by its time to live."
  default     = 90

  validation {
    condition     = var.history_retention_days >= 1 && var.history_retention_days <= 3650 && floor(var.history_retention_days) == var.history_retention_days
    error_message = "history_retention_days must be a whole number, 1 to 3650."
  }
}

variable "history_required" {
  type        = bool
  description = "Whether a write fails when its entry of the history cannot be written."
  default     = true
}

variable "operator_tenant" {
  type        = string
  description = "Tenant whose admins write the schemas of all tenants; null for none. With one, config-service may scan the configuration table."
  default     = "operators"
  nullable    = true

  validation {
    condition     = var.operator_tenant == null || can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", var.operator_tenant))
    error_message = "operator_tenant must be null or a tenant id: 1 to 64 letters, digits, '_' and '-', beginning with a letter or a digit."
  }
}

variable "blobs" {
  type        = bool
  description = "Whether there are keys `blob_config_*`, in a bucket of S3. Without it config-service knows no such key."
  default     = true
}

variable "secrets" {
  type        = bool
  description = "Whether there are keys `secret_config_*`, in Secrets Manager. Without it config-service knows no such key. Operators make the secrets."
  default     = true
}

variable "invalidator_zip" {
  type        = string
  description = "Path of the zip that holds the invalidator's `bootstrap`, built for this machine."
}

variable "invalidator_architecture" {
  type        = string
  description = "Instruction set of this machine: `x86_64` or `arm64`. The emulator runs the function as a local process."
  default     = "x86_64"
}

variable "config_http_port" {
  type        = number
  description = "TCP port of config-service's REST facade. Replicas differ by address, not by port."
  default     = 8080
}

variable "config_grpc_port" {
  type        = number
  description = "TCP port of config-service's gRPC listener."
  default     = 50051
}

variable "config_refresh_port" {
  type        = number
  description = "TCP port of config-service's refresh listener."
  default     = 50052
}

variable "order_http_port" {
  type        = number
  description = "TCP port of order-service."
  default     = 8081
}

variable "images" {
  type        = map(string)
  description = "Image with its tag of each service (`config-service`, `order-service`) that is to run as ECS tasks; empty where they are processes."
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.images), ["config-service", "order-service"])) == 0
    error_message = "images must have no keys but config-service and order-service."
  }
}

variable "config_tasks" {
  type        = number
  description = "Tasks of config-service at the start, where they are ECS tasks."
  default     = 2
}

variable "deregistration_delay_seconds" {
  type        = number
  description = "How long a target that is being removed may finish its requests."
  default     = 5
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
