variable "name" {
  type        = string
  description = "Name of the user pool; its client is named after it."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,63}$", var.name))
    error_message = "name must be 2 to 64 characters: lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "region" {
  type        = string
  description = "Region of the pool; part of the issuer that its tokens carry."
}

variable "explicit_auth_flows" {
  type        = set(string)
  description = "Sign-in flows of the client. The default never sends a password over the wire."
  default     = ["ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]

  validation {
    condition = length(setsubtract(var.explicit_auth_flows, [
      "ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH",
    ])) == 0
    error_message = "explicit_auth_flows may hold ALLOW_USER_SRP_AUTH, ALLOW_REFRESH_TOKEN_AUTH, ALLOW_USER_PASSWORD_AUTH and ALLOW_ADMIN_USER_PASSWORD_AUTH."
  }
}

variable "admin_password_sign_in" {
  type        = bool
  description = "Whether holders of AWS credentials may sign users in by password (ALLOW_ADMIN_USER_PASSWORD_AUTH), as the load test does."
  default     = false
}

variable "domain_prefix" {
  type        = string
  description = "Prefix of the hosted sign-in pages' address, unique in the region; null for no such pages."
  default     = null
  nullable    = true

  validation {
    condition     = var.domain_prefix == null || can(regex("^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$", var.domain_prefix))
    error_message = "domain_prefix must be null or 1 to 63 lower-case letters, digits and inner hyphens."
  }
}

variable "callback_urls" {
  type        = set(string)
  description = "Where the hosted pages may send a user who has signed in, with a code; needed with domain_prefix, and only then."
  default     = []

  validation {
    condition     = (length(var.callback_urls) > 0) == (var.domain_prefix != null)
    error_message = "callback_urls and domain_prefix must be given together."
  }

  validation {
    condition     = alltrue([for url in var.callback_urls : can(regex("^(https://[^/#]+|http://localhost(:[0-9]+)?)(/[^#]*)?$", url))])
    error_message = "callback_urls must begin with https:// (or http://localhost) and have no #fragment."
  }
}

variable "logout_urls" {
  type        = set(string)
  description = "Where the hosted pages may send a user who has signed out."
  default     = []

  validation {
    condition     = length(var.logout_urls) == 0 || var.domain_prefix != null
    error_message = "logout_urls need domain_prefix."
  }

  validation {
    condition     = alltrue([for url in var.logout_urls : can(regex("^(https://[^/#]+|http://localhost(:[0-9]+)?)(/[^#]*)?$", url))])
    error_message = "logout_urls must begin with https:// (or http://localhost) and have no #fragment."
  }
}

variable "supported_identity_providers" {
  type        = set(string)
  description = "Who may sign users in on the hosted pages. Another provider than the pool itself (`COGNITO`) makes its own users, whose tenant could not be set: it is immutable."
  default     = ["COGNITO"]

  validation {
    condition     = length(var.supported_identity_providers) > 0 && alltrue([for name in var.supported_identity_providers : can(regex("^[A-Za-z0-9_.-]{1,32}$", name))])
    error_message = "supported_identity_providers must be COGNITO, or names of providers of the pool: 1 to 32 letters, digits, '_', '.' and '-'."
  }
}

variable "mfa" {
  type        = string
  description = "Second factor by authenticator app (TOTP): `OFF`, `OPTIONAL` or `ON`."
  default     = "OPTIONAL"

  validation {
    condition     = contains(["OFF", "OPTIONAL", "ON"], var.mfa)
    error_message = "mfa must be OFF, OPTIONAL or ON."
  }
}

variable "token_validity_minutes" {
  type        = number
  description = "Lifetime of ID and access tokens, in minutes. A changed role reaches a signed-in user after at most this."
  default     = 60

  validation {
    condition     = var.token_validity_minutes >= 5 && var.token_validity_minutes <= 1440
    error_message = "token_validity_minutes must lie between 5 and 1440 (one day), as Cognito has it."
  }
}

variable "refresh_token_validity_days" {
  type        = number
  description = "Lifetime of refresh tokens, in days."
  default     = 1

  validation {
    condition     = var.refresh_token_validity_days >= 1 && var.refresh_token_validity_days <= 3650
    error_message = "refresh_token_validity_days must lie between 1 and 3650."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether the pool refuses to be deleted."
  default     = false
}
