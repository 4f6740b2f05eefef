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

variable "rule_names" {
  type        = map(string)
  description = "Names of the rules that hand changes of parameters, blobs and secrets to the invalidator, by what they match."
}

variable "backends" {
  type        = set(string)
  description = "Backends that config-service reads, as its metrics name them: `dynamodb`, `parameter-store`, `s3`, `secrets-manager`."
  default     = ["dynamodb", "parameter-store"]

  validation {
    condition     = length(var.backends) > 0 && length(setsubtract(var.backends, ["dynamodb", "parameter-store", "s3", "secrets-manager"])) == 0
    error_message = "backends must be out of dynamodb, parameter-store, s3 and secrets-manager."
  }
}

variable "stream_mapping_id" {
  type        = string
  description = "Id of the mapping from the table's stream to the invalidator; it must emit EventCount metrics."
}

variable "dead_letter_queue_names" {
  type        = map(string)
  description = "Names of the dead-letter queues, by what fails into each."
}

variable "alarm_action_arns" {
  type        = list(string)
  description = "ARNs of the SNS topics that an alarm notifies, when it goes off and when it ends."
  default     = []

  validation {
    condition     = length(var.alarm_action_arns) <= 5
    error_message = "alarm_action_arns must name at most 5: CloudWatch takes no more."
  }
}

variable "rest_api" {
  type = object({
    name  = string
    stage = string
  })
  description = "Name and stage of a REST API; null where it is an HTTP API."
  default     = null
  nullable    = true
}

variable "http_api_id" {
  type        = string
  description = "Id of an HTTP API; null where it is a REST API."
  default     = null
  nullable    = true

  validation {
    condition     = (var.http_api_id == null) != (var.rest_api == null)
    error_message = "http_api_id or rest_api must be given, and not both."
  }
}

variable "alb_arn_suffix" {
  type        = string
  description = "End of the load balancer's ARN."
}

variable "target_group_arn_suffixes" {
  type        = map(string)
  description = "End of each target group's ARN, by service."
}

variable "key_mirror_function_name" {
  type        = string
  description = "Name of the function that copies the signing keys."
}

variable "max_error_percent" {
  type        = number
  description = "Server errors that are still good service, in percent of the answers."
  default     = 1

  validation {
    condition     = var.max_error_percent > 0 && var.max_error_percent < 100
    error_message = "max_error_percent must lie between 0 and 100."
  }
}

variable "max_latency_seconds" {
  type        = number
  description = "Latency p99 at the load balancer that is still good service, in seconds."
  default     = 0.25

  validation {
    condition     = var.max_latency_seconds > 0 && var.max_latency_seconds <= 30
    error_message = "max_latency_seconds must lie between 0 and 30."
  }
}

variable "max_propagation_seconds" {
  type        = number
  description = "From a write to its being served everywhere, p99, that is still good service, in seconds."
  default     = 5

  validation {
    condition     = var.max_propagation_seconds >= 1 && var.max_propagation_seconds <= 3600
    error_message = "max_propagation_seconds must lie between 1 and 3600."
  }
}
