variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}$", var.name))
    error_message = "name must be 2 to 19 characters: lower-case letters, digits and hyphens, starting with a letter. A target group has 32, with `-config-` and a port."
  }
}

variable "account_id" {
  type        = string
  description = "Account in which the tasks run; their roles can be assumed on its behalf only."

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "region" {
  type        = string
  description = "Region in which the tasks run."
}

variable "vpc_id" {
  type        = string
  description = "VPC of the target groups."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of the load balancer, in at least two zones."

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must name at least 2 subnets, in different zones."
  }
}

variable "alb_security_group_id" {
  type        = string
  description = "Security group of the load balancer."
}

variable "listener_port" {
  type        = number
  description = "TCP port of the load balancer's listener."
  default     = 80

  validation {
    condition     = var.listener_port >= 1 && var.listener_port <= 65535
    error_message = "listener_port must lie between 1 and 65535."
  }
}

variable "config_http_port" {
  type        = number
  description = "TCP port of config-service's REST facade."

  validation {
    condition     = var.config_http_port >= 1 && var.config_http_port <= 65535
    error_message = "config_http_port must lie between 1 and 65535."
  }
}

variable "order_http_port" {
  type        = number
  description = "TCP port of order-service."

  validation {
    condition     = var.order_http_port >= 1 && var.order_http_port <= 65535
    error_message = "order_http_port must lie between 1 and 65535."
  }
}

variable "health_check_path" {
  type        = string
  description = "Path on which both services answer 200 when they are ready."
  default     = "/readyz"

  validation {
    condition     = startswith(var.health_check_path, "/")
    error_message = "health_check_path must begin with '/'."
  }
}

variable "deregistration_delay_seconds" {
  type        = number
  description = "How long a target that is being removed may finish its requests. Keep it below the tasks' stop timeout."
  default     = 30

  validation {
    condition     = var.deregistration_delay_seconds >= 0 && var.deregistration_delay_seconds <= 3600
    error_message = "deregistration_delay_seconds must lie between 0 and 3600."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether the load balancer refuses to be deleted."
  default     = false
}

variable "table_arn" {
  type        = string
  description = "ARN of the configuration table."
}

variable "journal_table_arn" {
  type        = string
  description = "ARN of the change journal's table."
}

variable "history_table_arn" {
  type        = string
  description = "ARN of the history's table."
}

variable "table_scan_enabled" {
  type        = bool
  description = "Whether config-service may scan the configuration table, as it must where there is an operators' tenant."
  default     = false
}

variable "cloud_map_namespace" {
  type        = string
  description = "Name of the Cloud Map namespace in which tasks register."
}

variable "cloud_map_service" {
  type        = string
  description = "Name of config-service in the namespace."
  default     = "config-service"
}

variable "parameter_root" {
  type        = string
  description = "Path in Parameter Store under which configuration lies."

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){1,4}$", var.parameter_root))
    error_message = "parameter_root must be 1 to 4 segments of letters, digits, '_', '.' and '-', each after a '/', without a trailing '/'."
  }
}

variable "blob_bucket" {
  type        = string
  description = "Name of the bucket behind `blob_config_*`, with objects under `tenants/` and `global/`; null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.blob_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.blob_bucket))
    error_message = "blob_bucket must be null or the name of a bucket, without a wildcard."
  }
}

variable "secret_root" {
  type        = string
  description = "Prefix of the names of secrets behind `secret_config_*` (`<root>/tenants/<tenant>/<name>`, `<root>/global/<name>`); null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.secret_root == null || can(regex("^[A-Za-z0-9_+=.@-]+(/[A-Za-z0-9_+=.@-]+){0,3}$", var.secret_root))
    error_message = "secret_root must be null or 1 to 4 segments of letters, digits and '_+=.@-', joined by '/', without a '/' at either end."
  }
}

variable "refresh_credential_parameter_arn" {
  type        = string
  description = "ARN of the parameter that holds the refresh credential."
}

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts tables, SecureString parameters, blobs and secrets."
}

variable "log_group_arns" {
  type        = map(string)
  description = "ARN of each service's log group, by service."

  validation {
    condition     = length(setsubtract(["config-service", "order-service"], keys(var.log_group_arns))) == 0
    error_message = "log_group_arns must have the keys config-service and order-service."
  }
}

variable "image_repository_arns" {
  type        = list(string)
  description = "ARNs of the image repositories that tasks are started from."

  validation {
    condition     = length(var.image_repository_arns) > 0
    error_message = "image_repository_arns must name at least one repository."
  }
}

variable "fargate" {
  type        = bool
  description = "Whether the cluster has the Fargate capacity providers: off where no tasks run."
  default     = false
}

variable "path_prefix" {
  type        = string
  description = "What an API leaves before every path: a REST API's stage, such as `/live`; null for nothing."
  default     = null
  nullable    = true

  validation {
    condition     = var.path_prefix == null || can(regex("^/[A-Za-z0-9_-]+$", var.path_prefix))
    error_message = "path_prefix must be null or one segment such as /live."
  }
}

variable "certificate_arn" {
  type        = string
  description = "ARN of the certificate of the listener; null for HTTP."
  default     = null
  nullable    = true

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:[a-z-]+:(acm|iam):", var.certificate_arn))
    error_message = "certificate_arn must be null or the ARN of a certificate of ACM or IAM."
  }
}

variable "jwks_object_arn" {
  type        = string
  description = "ARN of the S3 object that tasks read the user pool's keys from; null where they fetch a URL."
  default     = null
  nullable    = true

  validation {
    condition     = var.jwks_object_arn == null || can(regex("^arn:[a-z-]+:s3:::[^/*]+/[^*]+$", var.jwks_object_arn))
    error_message = "jwks_object_arn must be null or the ARN of one object, without a wildcard."
  }
}

variable "access_logs_bucket" {
  type        = string
  description = "Name of a bucket that takes the load balancer's access logs (its policy must admit the load balancers of the region); null for none."
  default     = null
  nullable    = true
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role of this module may be allowed; null for none."
  default     = null
  nullable    = true
}
