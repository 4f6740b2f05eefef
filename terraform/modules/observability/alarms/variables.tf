variable "name" {
  type        = string
  description = "Prefix of every name in this module, for example `tagged-config`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name must be 2 to 24 characters: lower-case letters, digits and hyphens, starting with a letter."
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

variable "alarm_action_arns" {
  type        = list(string)
  description = "Whom an alarm tells, when it goes off and when it ends: ARNs of SNS topics."
  default     = []
}
