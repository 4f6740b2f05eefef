variable "environment" {
  type        = string
  description = "Environment that the role deploys: `dev`, `prod`, or `local` (terraform/local on an emulator)."

  validation {
    condition     = contains(["dev", "prod", "local"], var.environment)
    error_message = "environment must be dev, prod or local."
  }
}

variable "region" {
  type        = string
  description = "Region of the environment, and the only one that the role may write in."
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must have the form us-east-1."
  }
}

variable "table_name" {
  type        = string
  description = "Name of the environment's configuration table; the journal's is this and `Journal`, the history's this and `History`."
}

variable "parameter_root" {
  type        = string
  description = "Path in Parameter Store under which the environment's configuration lies."

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){1,2}$", var.parameter_root))
    error_message = "parameter_root must be one or two segments, each after a slash."
  }
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of a policy that bounds the role, and that every role which it makes must have; null for none."
  default     = null
  nullable    = true

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be null or the ARN of a managed policy."
  }
}

variable "principal_arns" {
  type        = set(string)
  description = "ARNs of the accounts, users and roles that may assume the role."
  default     = []

  validation {
    condition     = alltrue([for arn in var.principal_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(root|user/|role/)", arn))])
    error_message = "principal_arns must be ARNs of accounts (:root), users or roles."
  }
}

variable "require_mfa" {
  type        = bool
  description = "Whether these principals need a second factor. Sessions of IAM Identity Center have none that AWS can see here: false for them."
  default     = true
}

variable "github" {
  type = object({
    repository = string
    branch     = optional(string, "main")
  })
  description = "Repository (`owner/name`) and branch whose GitHub workflows may assume the role by OpenID Connect; null for none. The account needs GitHub's provider."
  default     = null
  nullable    = true

  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+ [A-Za-z0-9._/-]+$", "${var.github.repository} ${var.github.branch}"))
    error_message = "github must have a repository such as owner/name and a branch, without wildcards."
  }

  validation {
    condition     = var.github != null || length(var.principal_arns) > 0
    error_message = "principal_arns or github must say who may assume the role."
  }
}

variable "max_session_hours" {
  type        = number
  description = "How long a session may last, in hours: 1 to 4."
  default     = 1

  validation {
    condition     = contains([1, 2, 3, 4], var.max_session_hours)
    error_message = "max_session_hours must be 1, 2, 3 or 4."
  }
}
