variable "environment" {
  type        = string
  description = "Environment: `dev` (cheap, goes without a trace) or `prod` (safe)."

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment must be dev or prod."
  }
}

variable "region" {
  type        = string
  description = "Region of everything."
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must have the form us-east-1."
  }
}

variable "image_tag" {
  type        = string
  description = "Tag of the images and packages to run. A deployment sets it; a plan needs none."
  default     = "planned"

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag))
    error_message = "image_tag must be 1 to 128 letters, digits, dots, hyphens and underscores."
  }
}

variable "architecture" {
  type        = string
  description = "Instruction set of tasks and functions: `ARM64` or `X86_64`."
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture must be ARM64 or X86_64."
  }
}

variable "api_type" {
  type        = string
  description = "Kind of API: `rest` (web ACL at the edge) or `http` (cheaper; the web ACL sits on the load balancer). See ADR 7."
  default     = "rest"

  validation {
    condition     = contains(["rest", "http"], var.api_type)
    error_message = "api_type must be rest or http."
  }
}

variable "permissions_boundary_arn" {
  type        = string
  description = "ARN of the policy that bounds what every role may be allowed, where the account demands one; null for none."
  default     = null
  nullable    = true

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be null or the ARN of an IAM policy."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether pool, table and load balancer refuse to be deleted, and buckets and repositories that hold something."
}

variable "cidr_block" {
  type        = string
  description = "IPv4 range of the VPC."
  default     = "10.40.0.0/16"
}

variable "availability_zone_count" {
  type        = number
  description = "Availability zones to spread over: 2 or 3."
  default     = 2

  validation {
    condition     = contains([2, 3], var.availability_zone_count)
    error_message = "availability_zone_count must be 2 or 3."
  }
}

variable "nat" {
  type        = string
  description = "NAT gateways: `none`, `single` or `per_zone`. Nothing in this project needs one."
  default     = "none"

  validation {
    condition     = contains(["none", "single", "per_zone"], var.nat)
    error_message = "nat must be none, single or per_zone."
  }
}

variable "certificate_arn" {
  type        = string
  description = "ARN of an ACM certificate for the internal load balancer; null for HTTP inside the VPC (ADR 5)."
  default     = null
  nullable    = true

  validation {
    condition     = (var.certificate_arn == null) == (var.certificate_name == null)
    error_message = "certificate_arn and certificate_name must be given together."
  }
}

variable "certificate_name" {
  type        = string
  description = "Name in that certificate, which API Gateway verifies."
  default     = null
  nullable    = true

  validation {
    condition     = var.certificate_name == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.certificate_name))
    error_message = "certificate_name must be null or a host name such as config.example.com, without a wildcard."
  }
}

variable "table_name" {
  type        = string
  description = "Name of the configuration table. Two environments of one account and region need two."
  default     = "TenantConfigurations"
}

variable "parameter_root" {
  type        = string
  description = "Path in Parameter Store under which configuration lies."

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){1,2}$", var.parameter_root)) && !startswith(var.parameter_root, "/aws") && !startswith(var.parameter_root, "/ssm")
    error_message = "parameter_root must be one or two segments, each after a slash, and not begin with /aws or /ssm."
  }
}

variable "global_defaults" {
  type        = map(string)
  description = "Shared defaults under `<root>/global/`, name to JSON value. Created once; operators change them afterwards."
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
  default     = null
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

variable "blob_max_bytes" {
  type        = number
  description = "The largest blob that is written, in bytes. API Gateway passes 10 MB."
  default     = 8388608

  validation {
    condition     = var.blob_max_bytes >= 1 && var.blob_max_bytes <= 67108864
    error_message = "blob_max_bytes must be 1 to 67108864."
  }
}

variable "blob_noncurrent_retention_days" {
  type        = number
  description = "Days that a version of a blob is kept after a newer one, or a removal, has taken its place."
  default     = 90
}

variable "secrets" {
  type        = bool
  description = "Whether there are keys `secret_config_*`, in Secrets Manager. Without it config-service knows no such key. Operators make the secrets."
  default     = true
}

variable "key_deletion_window_days" {
  type        = number
  description = "Days that encryption keys wait before they are really deleted."
  default     = 30
}

variable "refresh_credential_generation" {
  type        = number
  description = "Raise it by one to rotate the refresh credential, and with any change of its parameter (key, description): tasks are started anew."
  default     = 1
}

variable "cache_ttl" {
  type        = string
  description = "How long a task serves a value that no event has touched, with its unit."
  default     = "60s"

  validation {
    condition     = can(regex("^[0-9]+(ms|s|m|h)$", var.cache_ttl))
    error_message = "cache_ttl must be a duration with its unit, such as 60s."
  }
}

variable "cache_bytes" {
  type        = number
  description = "Memory of a task's cache, in bytes."
  default     = 268435456
}

variable "tasks" {
  type = map(object({
    cpu        = number
    memory_mib = number
    min        = number
    max        = number
  }))
  description = "Size and number of the tasks of each service: CPU units, MiB, and how few and many there may be."

  validation {
    condition     = toset(keys(var.tasks)) == toset(["config-service", "order-service"])
    error_message = "tasks must have the keys config-service and order-service."
  }
}

variable "spot_percent" {
  type        = number
  description = "Share of the tasks after the first that run on Fargate Spot."
  default     = 0
}

variable "autoscaling_enabled" {
  type        = bool
  description = "Whether the number of tasks follows the load."
  default     = true
}

variable "invalidator_reserved_concurrency" {
  type        = number
  description = "Invocations that are kept for the invalidator and that it may not exceed; -1 for the account's pool. AWS wants 100 of the account's left, and a new account may have but 10 in all."
  default     = -1
}

variable "mfa" {
  type        = string
  description = "Second factor by authenticator app: `OFF`, `OPTIONAL` or `ON`."
  default     = "OPTIONAL"
}

variable "domain_prefix" {
  type        = string
  description = "Prefix of hosted sign-in pages; null for none."
  default     = null
  nullable    = true
}

variable "callback_urls" {
  type        = set(string)
  description = "Where those pages may send a user who has signed in; needed with domain_prefix, and only then."
  default     = []

  validation {
    condition     = (length(var.callback_urls) > 0) == (var.domain_prefix != null)
    error_message = "callback_urls and domain_prefix must be given together."
  }
}

variable "logout_urls" {
  type        = set(string)
  description = "Where those pages may send a user who has signed out."
  default     = []
}

variable "admin_password_sign_in" {
  type        = bool
  description = "Whether holders of AWS credentials may sign users in by password, as the load test does. Refused in prod."
  default     = false

  validation {
    condition     = !(var.admin_password_sign_in && var.environment == "prod")
    error_message = "admin_password_sign_in must be false in prod."
  }
}

variable "requests_per_5_minutes" {
  type        = number
  description = "Requests that one client address may make in any 5 minutes before it is blocked."
  default     = 20000
}

variable "unlimited_cidr_blocks" {
  type        = list(string)
  description = "IPv4 ranges that this limit leaves out, for load tests."
  default     = []
}

variable "throttle" {
  type = object({
    requests_per_second = number
    burst               = number
  })
  description = "Requests that all callers together may make."
  default = {
    requests_per_second = 2000
    burst               = 1000
  }
}

variable "api_access_logs" {
  type        = bool
  description = "Whether the API writes an access log. A REST API needs a role that is set for the whole account: by `make account-settings` once, or by its owner."
  default     = true
}

variable "parameter_store_high_throughput" {
  type        = bool
  description = "Whether the account has Parameter Store's higher, paid throughput (`make account-settings` switches it on), so that tasks may read more."
  default     = false
}

variable "log_retention_days" {
  type        = number
  description = "Days that logs are kept."
  default     = 30
}

variable "log_queries_enabled" {
  type        = bool
  description = "Whether saved queries are made."
  default     = true
}

variable "alert_emails" {
  type        = set(string)
  description = "Addresses that alarms are sent to; each has to confirm. prod needs one, or a topic."
  default     = []

  validation {
    condition     = var.environment != "prod" || length(var.alert_emails) + length(var.alert_topic_arns) > 0
    error_message = "prod needs alert_emails or alert_topic_arns: without them its alarms reach no one."
  }
}

variable "alert_topic_arns" {
  type        = set(string)
  description = "ARNs of SNS topics that alarms are sent to besides, such as that of an incident tool; each must let CloudWatch publish."
  default     = []

  validation {
    condition     = length(var.alert_topic_arns) <= 4 && alltrue([for arn in var.alert_topic_arns : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:", arn))])
    error_message = "alert_topic_arns must be at most 4 ARNs of SNS topics: CloudWatch takes 5, and one is this environment's own."
  }
}

variable "load_test_runner" {
  type        = bool
  description = "Whether a load test can be run in the VPC: task definition, role, security group, endpoint."
  default     = false

  validation {
    condition     = !(var.load_test_runner && var.environment == "prod")
    error_message = "load_test_runner must be false in prod: its users are made with passwords."
  }

  validation {
    condition     = !var.load_test_runner || var.admin_password_sign_in
    error_message = "load_test_runner needs admin_password_sign_in = true: it signs its users in by password."
  }

  validation {
    condition     = !var.load_test_runner || var.domain_prefix == null
    error_message = "load_test_runner needs domain_prefix = null: a pool with a domain has no endpoint in a VPC."
  }

  validation {
    condition     = !var.load_test_runner || var.mfa != "ON"
    error_message = "load_test_runner needs mfa OFF or OPTIONAL: its users have no authenticator."
  }
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
