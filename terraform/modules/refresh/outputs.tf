output "function_name" {
  description = "Name of the invalidator function."
  value       = aws_lambda_function.invalidator.function_name
}

output "function_arn" {
  description = "ARN of the invalidator function."
  value       = aws_lambda_function.invalidator.arn
}

output "dead_letter_queue_names" {
  description = "Name of each dead-letter queue: `rule`, `function`, `stream`."
  value       = { for name, queue in aws_sqs_queue.dead_letter : name => queue.name }
}

output "stream_mapping_id" {
  description = "Id of the mapping from the table's stream to the function."
  value       = aws_lambda_event_source_mapping.table.uuid
}

output "rule_names" {
  description = "Name of each rule on the default event bus, by what it matches: `parameter-change`, with blobs `blob-change`, with secrets `secret-change` and `secret-lifecycle`."
  value       = { for key, rule in aws_cloudwatch_event_rule.this : key => rule.name }
}
