output "table_name" {
  description = "Name of the configuration table."
  value       = aws_dynamodb_table.this.name
}

output "table_arn" {
  description = "ARN of the configuration table."
  value       = aws_dynamodb_table.this.arn
}

output "table_stream_arn" {
  description = "ARN of the table's stream."
  value       = aws_dynamodb_table.this.stream_arn
}

output "journal_table_name" {
  description = "Name of the change journal's table."
  value       = aws_dynamodb_table.journal.name
}

output "journal_table_arn" {
  description = "ARN of the change journal's table."
  value       = aws_dynamodb_table.journal.arn
}

output "history_table_name" {
  description = "Name of the history's table."
  value       = aws_dynamodb_table.history.name
}

output "history_table_arn" {
  description = "ARN of the history's table. Its index is `<ARN>/index/ByTime`."
  value       = aws_dynamodb_table.history.arn
}

output "parameter_root" {
  description = "Path in Parameter Store under which configuration lies."
  value       = var.parameter_root
}

output "kms_key_arn" {
  description = "ARN of the key that encrypts tables, SecureString parameters, blobs and secrets."
  value       = aws_kms_key.this.arn
}
