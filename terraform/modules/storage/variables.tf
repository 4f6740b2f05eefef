variable "name" {
  type        = string
  description = "Prefix of the names in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "table_name" {
  type        = string
  description = "Name of the table that holds tenants' configuration."
  default     = "TenantConfigurations"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.table_name))
    error_message = "table_name must be 3 to 255 characters out of letters, digits, '_', '.' and '-'."
  }
}

variable "journal_table_name" {
  type        = string
  description = "Name of the table that says which locations changed."
  default     = "TenantConfigurationsJournal"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.journal_table_name))
    error_message = "journal_table_name must be 3 to 255 characters out of letters, digits, '_', '.' and '-'."
  }
}

variable "history_table_name" {
  type        = string
  description = "Name of the table that holds every change, with who made it and when."
  default     = "TenantConfigurationsHistory"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.history_table_name))
    error_message = "history_table_name must be 3 to 255 characters out of letters, digits, '_', '.' and '-'."
  }
}

variable "parameter_root" {
  type        = string
  description = "Path in Parameter Store under which configuration lies (`<root>/global/...`, `<root>/tenants/<tenant>/...`)."
  default     = "/tagged-config/config"

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){1,4}$", var.parameter_root))
    error_message = "parameter_root must be 1 to 4 segments of letters, digits, '_', '.' and '-', each after a '/', without a trailing '/'."
  }

  validation {
    condition     = !startswith(var.parameter_root, "/aws") && !startswith(var.parameter_root, "/ssm")
    error_message = "parameter_root must not begin with /aws or /ssm: AWS reserves them."
  }
}

variable "global_defaults" {
  type        = map(string)
  description = "Shared defaults to create under `<root>/global/`, name to JSON value. Created once: operators change them afterwards, and Terraform leaves what they wrote."
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.global_defaults) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$", name))])
    error_message = "global_defaults must be named like configuration names: segments of letters, digits, '.', '_' and '-', joined by '/'."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether the configuration table and the history refuse to be deleted."
  default     = false
}

variable "key_deletion_window_days" {
  type        = number
  description = "Days that the encryption key waits before it is really deleted."
  default     = 30

  validation {
    condition     = var.key_deletion_window_days >= 7 && var.key_deletion_window_days <= 30
    error_message = "key_deletion_window_days must lie between 7 and 30."
  }
}
