# Dead-letter queues for events that could not be handled, one for each way to fail. All three should stay empty.

locals {
  dead_letter_queues = {
    rule     = "Events that EventBridge could not hand to the function"
    function = "Events that the function failed on"
    stream   = "Positions of stream records that the function failed on"
  }

  queue_arns = {
    for name in keys(local.dead_letter_queues) :
    name => "arn:${local.partition}:sqs:${var.region}:${var.account_id}:${var.name}-${name}-dead-letter"
  }
}

resource "aws_sqs_queue" "dead_letter" {
  for_each = local.dead_letter_queues

  name                       = "${var.name}-${each.key}-dead-letter"
  message_retention_seconds  = 1209600
  visibility_timeout_seconds = 60
  sqs_managed_sse_enabled    = true

  tags = { Purpose = each.value }
}

# The other two are written with the function's own role.
data "aws_iam_policy_document" "rule_dead_letter" {
  statement {
    sid       = "Rules"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arns["rule"]]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = values(local.rule_arns)
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }
  }
}

resource "aws_sqs_queue_policy" "rule_dead_letter" {
  queue_url = aws_sqs_queue.dead_letter["rule"].id
  policy    = data.aws_iam_policy_document.rule_dead_letter.json
}
