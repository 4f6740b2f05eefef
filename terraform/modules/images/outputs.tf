output "repository_urls" {
  description = "URL of each repository, by program."
  value       = { for program, repository in aws_ecr_repository.this : program => repository.repository_url }
}

output "repository_arns" {
  description = "ARN of each repository, by program."
  value       = { for program, repository in aws_ecr_repository.this : program => repository.arn }
}

output "artifacts_bucket" {
  description = "Name of the bucket for the functions' zips."
  value       = aws_s3_bucket.artifacts.bucket
}
