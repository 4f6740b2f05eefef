# The tag `secret_config_*`, where there is a root: the rules on changes of secrets. The invalidator announces a change and reads
# no secret, so that its role has no permission for it.

locals {
  # A caller names a secret by its name or by its ARN.
  secret_prefixes = [
    { prefix = "${coalesce(var.secret_root, "none")}/" },
    { prefix = "arn:${local.partition}:secretsmanager:${var.region}:${var.account_id}:secret:${coalesce(var.secret_root, "none")}/" },
  ]

  secret_rules = var.secret_root == null ? {} : {
    # A new value moves the label AWSCURRENT. Secrets Manager announces that itself, with the secret's name and without its value.
    secret-change = {
      description = "A configuration secret has a new current version"
      pattern = jsonencode({
        source      = ["aws.secretsmanager"]
        detail-type = ["Secret Label Updated"]
        detail = {
          name         = [{ prefix = "${var.secret_root}/" }]
          labelUpdated = ["AWSCURRENT"]
        }
      })
    }

    # Secrets Manager announces no deletion. CloudTrail does, but only where the account has a trail that logs management events.
    secret-lifecycle = {
      description = "A configuration secret was created, deleted or restored. Needs a CloudTrail trail with management events: without one, a new secret shows when the TTL of its absence ends"
      pattern = jsonencode({
        source      = ["aws.secretsmanager"]
        detail-type = ["AWS API Call via CloudTrail"]
        detail = {
          eventSource = ["secretsmanager.amazonaws.com"]
          eventName   = ["CreateSecret", "DeleteSecret", "RestoreSecret"]
          "$or" = [
            { requestParameters = { name = local.secret_prefixes } },
            { requestParameters = { secretId = local.secret_prefixes } },
          ]
        }
      })
    }
  }
}
