output "web_acl_arn" {
  description = "ARN of the web ACL."
  value       = aws_wafv2_web_acl.this.arn
}

output "web_acl_name" {
  description = "Name of the web ACL, a dimension of its metrics."
  value       = aws_wafv2_web_acl.this.name
}

output "protected_resources" {
  description = "ARNs that the web ACL guards, by the keys that they were given with."
  value       = { for meaning, association in aws_wafv2_web_acl_association.this : meaning => association.resource_arn }
}
