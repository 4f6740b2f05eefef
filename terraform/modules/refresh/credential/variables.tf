variable "name" {
  type        = string
  description = "Name of the parameter that holds the credential. It must not lie under the configuration root."
  default     = "/tagged-config/internal/refresh-credential"

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){2,6}$", var.name))
    error_message = "name must be 2 to 6 segments of letters, digits, '_', '.' and '-', each after a '/'."
  }

  validation {
    condition     = !startswith(var.name, "${var.parameter_root}/")
    error_message = "name must lie outside parameter_root: a reader of configuration must not be able to read the credential."
  }
}

variable "parameter_root" {
  type        = string
  description = "Path in Parameter Store under which configuration lies."
}

variable "kms_key_arn" {
  type        = string
  description = "ARN of the key that encrypts the parameter."
}

variable "generation" {
  type        = number
  description = "Raise it by one to rotate the credential. The version before stays readable as `<name>:<version>`."
  default     = 1

  validation {
    condition     = var.generation >= 1 && floor(var.generation) == var.generation
    error_message = "generation must be a whole number from 1 up."
  }
}
