# The secret that the invalidator shows to config-service's refresh listener. It is drawn during the apply and
# written straight to the parameter: neither the state nor a plan ever holds it.

ephemeral "aws_secretsmanager_random_password" "this" {
  password_length     = 48
  exclude_punctuation = true
}

# A change of anything but the generation is refused: the provider then writes an empty value, since it knows none. Raise the
# generation with it.
resource "aws_ssm_parameter" "this" {
  name             = var.name
  description      = "Credential of the refresh listener. Rotate it by Terraform (generation)."
  type             = "SecureString"
  key_id           = var.kms_key_arn
  value_wo         = ephemeral.aws_secretsmanager_random_password.this.random_password
  value_wo_version = var.generation
}
