variable "region" {
  type        = string
  description = "Region of the endpoints."
}

variable "image_repository_arns" {
  type        = list(string)
  description = "ARNs of the image repositories that tasks are started from."
}

variable "log_group_arns" {
  type        = list(string)
  description = "ARNs of the log groups that tasks write to, and that a load test reads."
}

variable "parameters_arn" {
  type        = string
  description = "ARN of the path in Parameter Store under which configuration lies, without a trailing `/`."
}

variable "refresh_credential_parameter_arn" {
  type        = string
  description = "ARN of the parameter that holds the refresh credential."
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

variable "blob_bucket_arn" {
  type        = string
  description = "ARN of the bucket behind `blob_config_*`; null without the tag."
  default     = null
  nullable    = true
}

variable "secrets_arn" {
  type        = string
  description = "ARN of the prefix of the names of secrets behind `secret_config_*`, without a trailing `/`; null without the tag."
  default     = null
  nullable    = true
}

variable "jwks_object_arn" {
  type        = string
  description = "ARN of the S3 object that tasks read the user pool's keys from; null where they fetch a URL."
  default     = null
  nullable    = true
}

variable "load_test" {
  type        = object({ user_pool_arn = string })
  description = "What a load test in the VPC needs beyond the services; null without one."
  default     = null
  nullable    = true
}
