output "jwks_url" {
  description = "Where tasks read the keys, available once the object is."
  value       = "s3://${aws_s3_bucket.this.bucket}/${local.object_key}"

  depends_on = [aws_lambda_invocation.first]
}

output "object_arn" {
  description = "ARN of the object."
  value       = local.object_arn
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = local.bucket_arn
}

output "function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.this.function_name
}

output "dead_letter_queue_name" {
  description = "Name of the dead-letter queue."
  value       = aws_sqs_queue.dead_letter.name
}
