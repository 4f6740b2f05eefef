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
  description = "Region whose metrics the dashboard shows."
}

variable "log_groups" {
  type        = map(string)
  description = "Names of the log groups to create, by the program that writes to each."
}

variable "log_retention_days" {
  type        = number
  description = "Days that log events are kept."
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653."
  }
}

variable "metrics_namespace" {
  type        = string
  description = "CloudWatch namespace in which the programs emit their metrics."
  default     = "TaggedConfig"
}

variable "function_name" {
  type        = string
  description = "Name of the invalidator function."
}

variable "dead_letter_queue_names" {
  type        = map(string)
  description = "Names of the dead-letter queues, by what fails into each."
}

variable "alb_arn_suffix" {
  type        = string
  description = "End of the load balancer's ARN."
}

variable "log_kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts the log groups (module `key`); null for a key of AWS."
  default     = null
  nullable    = true
}

variable "cluster_name" {
  type        = string
  description = "Name of the ECS cluster, for the count of running tasks; null where no tasks run."
  default     = null
  nullable    = true
}

variable "rest_api" {
  type = object({
    name  = string
    stage = string
  })
  description = "Name and stage of a REST API, for its latency and errors; null where there is none."
  default     = null
  nullable    = true
}

variable "http_api_id" {
  type        = string
  description = "Id of an HTTP API, for its latency and errors; null where there is none."
  default     = null
  nullable    = true
}

variable "web_acl_name" {
  type        = string
  description = "Name of the web ACL, for what it blocked; null to leave it out."
  default     = null
  nullable    = true
}

variable "target_group_arn_suffixes" {
  type        = map(string)
  description = "End of each target group's ARN, by service, for latency by path."
  default     = {}
}
