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

variable "image" {
  type        = string
  description = "Image of the load test, with its tag."

  validation {
    condition     = can(regex("[^/]:[A-Za-z0-9_][A-Za-z0-9._-]*$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must end with a tag, and not with latest: a report names what it measured with."
  }
}

variable "command" {
  type        = list(string)
  description = "Arguments of the load test. The command that starts it may override them."
  default     = ["latency", "--target", "grpc", "--out", "/reports"]
}

variable "architecture" {
  type        = string
  description = "Instruction set of the task: `ARM64` or `X86_64`."
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture must be ARM64 or X86_64."
  }
}

variable "cpu" {
  type        = number
  description = "CPU units of the task (1024 are one processor). A generator that lacks processor measures itself."
  default     = 4096

  validation {
    condition     = contains([1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu must be 1024, 2048, 4096, 8192 or 16384."
  }
}

variable "memory_mib" {
  type        = number
  description = "Memory of the task, in MiB."
  default     = 8192

  validation {
    condition = contains(
      {
        "1024"  = range(2048, 8193, 1024)
        "2048"  = range(4096, 16385, 1024)
        "4096"  = range(8192, 30721, 1024)
        "8192"  = range(16384, 61441, 4096)
        "16384" = range(32768, 122881, 8192)
      }[tostring(var.cpu)],
      var.memory_mib,
    )
    error_message = "memory_mib must be what Fargate has for the cpu: 2048 to 8192 for 1024; 4096 to 16384 for 2048; 8192 to 30720 for 4096 (steps of 1024); 16384 to 61440 for 8192 (steps of 4096); 32768 to 122880 for 16384 (steps of 8192)."
  }
}

variable "environment" {
  type        = map(string)
  description = "Environment variables: where the targets are, beside the load balancer (ALB_URL). Never a secret: they are readable in the task definition."

  # The one exception holds a prefix of names.
  validation {
    condition     = !anytrue([for name in setsubtract(keys(var.environment), ["SECRET_ROOT"]) : can(regex("CREDENTIAL|PASSWORD|SECRET|TOKEN|PRIVATE_KEY", name))])
    error_message = "environment must not hold CREDENTIAL, PASSWORD, SECRET, TOKEN or PRIVATE_KEY in a name."
  }
}

variable "alb" {
  type = object({
    dns_name = string
    zone_id  = string
  })
  description = "The load balancer: its DNS name, and the zone that has this name."
}

variable "certificate_name" {
  type        = string
  description = "Name in the load balancer's certificate, which is then resolved to it in the VPC; null for HTTP."
  default     = null
  nullable    = true

  validation {
    condition     = var.certificate_name == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.certificate_name))
    error_message = "certificate_name must be null or a host name such as config.example.com, without a wildcard."
  }
}

variable "vpc_id" {
  type        = string
  description = "VPC of the load test."
}

variable "log_group_name" {
  type        = string
  description = "Name of the log group."
}

variable "execution_role_arn" {
  type        = string
  description = "ARN of the role that starts the task."
}

variable "user_pool_arn" {
  type        = string
  description = "ARN of the user pool, for test users."
}

variable "table_arn" {
  type        = string
  description = "ARN of the configuration table."
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
  description = "Name of the bucket behind `blob_config_*`; null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.blob_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.blob_bucket))
    error_message = "blob_bucket must be null or the name of a bucket, without a wildcard."
  }
}

variable "secret_root" {
  type        = string
  description = "Prefix of the names of secrets behind `secret_config_*`; null without the tag."
  default     = null
  nullable    = true

  validation {
    condition     = var.secret_root == null || can(regex("^[A-Za-z0-9_+=.@-]+(/[A-Za-z0-9_+=.@-]+){0,3}$", var.secret_root))
    error_message = "secret_root must be null or 1 to 4 segments of letters, digits and '_+=.@-', joined by '/', without a '/' at either end."
  }
}

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts the table and blobs."
}

variable "cloud_map_namespace" {
  type        = string
  description = "Name of the Cloud Map namespace."
}

variable "invalidator_log_group_arn" {
  type        = string
  description = "ARN of the invalidator's log group, for its receipts."
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role of this module may be allowed; null for none."
  default     = null
  nullable    = true
}
