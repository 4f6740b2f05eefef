output "user_pool_id" {
  description = "Id of the user pool."
  value       = aws_cognito_user_pool.this.id
}

output "user_pool_arn" {
  description = "ARN of the user pool."
  value       = aws_cognito_user_pool.this.arn
}

output "client_id" {
  description = "Id of the app client: the audience of ID tokens."
  value       = aws_cognito_user_pool_client.this.id
}

output "issuer" {
  description = "Issuer (`iss`) of the pool's tokens."
  value       = "https://cognito-idp.${var.region}.amazonaws.com/${aws_cognito_user_pool.this.id}"
}

output "hosted_domain" {
  description = "Prefix of the hosted sign-in pages' address; null where there are none."
  value       = one(aws_cognito_user_pool_domain.this[*].domain)
}
