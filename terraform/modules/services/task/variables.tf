variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "region" {
  type        = string
  description = "Region of these resources."
}

variable "program" {
  type        = string
  description = "Program that the tasks run: the name of container, service and binary."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]+$", var.program))
    error_message = "program must be lower-case letters, digits and hyphens."
  }
}

variable "image" {
  type        = string
  description = "Image with its tag, which names one build for good."

  validation {
    condition     = can(regex("[^/]:[A-Za-z0-9_][A-Za-z0-9._-]*$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must end with a tag, and not with latest: a rollback must find what it goes back to."
  }
}

variable "architecture" {
  type        = string
  description = "Instruction set of the tasks: `ARM64` or `X86_64`. The image must be built for it."
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture must be ARM64 or X86_64."
  }
}

variable "cpu" {
  type        = number
  description = "CPU units of a task (1024 are one processor)."
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu must be 256, 512, 1024, 2048, 4096, 8192 or 16384, as Fargate has it."
  }
}

variable "memory_mib" {
  type        = number
  description = "Memory of a task, in MiB."
  default     = 1024

  validation {
    condition = contains(
      {
        "256"   = [512, 1024, 2048]
        "512"   = range(1024, 4097, 1024)
        "1024"  = range(2048, 8193, 1024)
        "2048"  = range(4096, 16385, 1024)
        "4096"  = range(8192, 30721, 1024)
        "8192"  = range(16384, 61441, 4096)
        "16384" = range(32768, 122881, 8192)
      }[tostring(var.cpu)],
      var.memory_mib,
    )
    error_message = "memory_mib must be what Fargate has for the cpu: 512, 1024 or 2048 for 256; 1024 to 4096 for 512; 2048 to 8192 for 1024; 4096 to 16384 for 2048; 8192 to 30720 for 4096 (steps of 1024); 16384 to 61440 for 8192 (steps of 4096); 32768 to 122880 for 16384 (steps of 8192)."
  }
}

variable "ports" {
  type        = map(number)
  description = "TCP ports that the program listens on, by name; `http` is the one behind the load balancer."

  validation {
    condition     = contains(keys(var.ports), "http")
    error_message = "ports must have the key http."
  }

  validation {
    condition     = alltrue([for port in values(var.ports) : port >= 1024 && port <= 65535])
    error_message = "ports must lie between 1024 and 65535: the program is not root and has no capability."
  }
}

variable "environment" {
  type        = map(string)
  description = "Environment variables. Never a secret: they are readable in the task definition."

  # The one exception holds a prefix of names.
  validation {
    condition     = !anytrue([for name in setsubtract(keys(var.environment), ["TAGGED_CONFIG_SECRET_ROOT"]) : can(regex("CREDENTIAL|PASSWORD|SECRET|TOKEN|PRIVATE_KEY", name))])
    error_message = "environment must not hold CREDENTIAL, PASSWORD, SECRET, TOKEN or PRIVATE_KEY in a name: give its ARN in secrets."
  }
}

variable "secrets" {
  type        = map(string)
  description = "Environment variables that hold secrets: ARNs of parameters, read when a task starts."
  default     = {}

  validation {
    condition     = alltrue([for arn in values(var.secrets) : can(regex("^arn:[a-z-]+:(ssm|secretsmanager):", arn))])
    error_message = "secrets must be ARNs of parameters or of Secrets Manager, not the secrets themselves."
  }
}

variable "secrets_generation" {
  type        = number
  description = "Raise it with a secret that is rotated, so that tasks are started anew."
  default     = 1

  validation {
    condition     = var.secrets_generation >= 1 && floor(var.secrets_generation) == var.secrets_generation
    error_message = "secrets_generation must be a whole number from 1 up."
  }
}

variable "log_group_name" {
  type        = string
  description = "Name of the log group."
}

variable "execution_role_arn" {
  type        = string
  description = "ARN of the role that starts the tasks."
}

variable "task_role_arn" {
  type        = string
  description = "ARN of the role that the code has."
}

variable "cluster_arn" {
  type        = string
  description = "ARN of the cluster."
}

variable "cluster_name" {
  type        = string
  description = "Name of the cluster."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of the tasks, in at least two zones."

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must name at least 2 subnets, in different zones."
  }
}

variable "security_group_id" {
  type        = string
  description = "Security group of the tasks."
}

variable "target_group_arn" {
  type        = string
  description = "ARN of the target group."
}

variable "target_group_arn_suffix" {
  type        = string
  description = "End of the target group's ARN."
}

variable "alb_arn_suffix" {
  type        = string
  description = "End of the load balancer's ARN."
}

variable "discovery_service_arn" {
  type        = string
  description = "ARN of the program in Cloud Map."
}

variable "min_tasks" {
  type        = number
  description = "Tasks at least, and at the start."
  default     = 2

  validation {
    condition     = var.min_tasks >= 1 && var.min_tasks <= 1000
    error_message = "min_tasks must lie between 1 and 1000."
  }
}

variable "max_tasks" {
  type        = number
  description = "Tasks at most."
  default     = 10

  validation {
    condition     = var.max_tasks >= var.min_tasks
    error_message = "max_tasks must not be below min_tasks."
  }
}

variable "spot_percent" {
  type        = number
  description = "Share of the tasks after the first that run on Fargate Spot."
  default     = 0

  validation {
    condition     = var.spot_percent >= 0 && var.spot_percent <= 90
    error_message = "spot_percent must lie between 0 and 90: Spot may vanish all at once."
  }
}

variable "stop_timeout_seconds" {
  type        = number
  description = "From SIGTERM to SIGKILL. Longer than drain delay and drain together (35 s on AWS)."
  default     = 60

  validation {
    condition     = var.stop_timeout_seconds >= 40 && var.stop_timeout_seconds <= 120
    error_message = "stop_timeout_seconds must lie between 40 and 120."
  }
}

variable "autoscaling_enabled" {
  type        = bool
  description = "Whether the number of tasks follows the load."
  default     = true
}

variable "target_cpu_percent" {
  type        = number
  description = "Processor use that scaling aims at."
  default     = 60

  validation {
    condition     = var.target_cpu_percent >= 10 && var.target_cpu_percent <= 90
    error_message = "target_cpu_percent must lie between 10 and 90."
  }
}

variable "target_requests_per_minute" {
  type        = number
  description = "Requests per task and minute, through the load balancer, that scaling aims at."
  default     = 60000

  validation {
    condition     = var.target_requests_per_minute >= 100
    error_message = "target_requests_per_minute must be at least 100."
  }
}

variable "wait_for_steady_state" {
  type        = bool
  description = "Whether an apply waits until the new tasks serve."
  default     = false
}
