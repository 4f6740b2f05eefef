# Log groups and who may write to them, alarms, the dashboard, and where alarms go.

locals {
  observability = [
    {
      sid = "ReadObservability"
      actions = [
        "cloudwatch:DescribeAlarms",
        "logs:DescribeLogGroups",
        "logs:DescribeQueryDefinitions",
        "logs:DescribeResourcePolicies",
        "logs:GetLogDelivery",
        "logs:ListLogDeliveries",
        "sns:GetSubscriptionAttributes",
      ]
      resources = ["*"]
    },
    {
      sid = "LogGroups"
      actions = [
        "logs:AssociateKmsKey",
        "logs:CreateLogGroup",
        "logs:DeleteLogGroup",
        "logs:DeleteRetentionPolicy",
        "logs:DisassociateKmsKey",
        "logs:ListTagsForResource",
        "logs:PutRetentionPolicy",
        "logs:TagResource",
        "logs:UntagResource",
      ]
      resources = flatten([
        for group in [
          "/${local.name}/*", "/aws/ecs/containerinsights/${local.name}/*", "/aws/lambda/${local.name}-*", "aws-waf-logs-${local.name}",
        ] : ["${local.arn.logs}:log-group:${group}", "${local.arn.logs}:log-group:${group}:*"]
      ])
    },
    # Deliveries (of an API's access log, of the web ACL's log), the account's policies for them and saved queries know no
    # resource.
    {
      sid = "LogDeliveries"
      actions = [
        "logs:CreateLogDelivery",
        "logs:DeleteLogDelivery",
        "logs:DeleteQueryDefinition",
        "logs:DeleteResourcePolicy",
        "logs:PutQueryDefinition",
        "logs:PutResourcePolicy",
        "logs:UpdateLogDelivery",
      ]
      resources = ["*"]
    },
    {
      sid = "Alarms"
      actions = [
        "cloudwatch:DeleteAlarms",
        "cloudwatch:ListTagsForResource",
        "cloudwatch:PutMetricAlarm",
        "cloudwatch:TagResource",
        "cloudwatch:UntagResource",
      ]
      resources = ["${local.arn.cloudwatch}:alarm:${local.name}-*"]
    },
    {
      sid       = "Dashboard"
      actions   = ["cloudwatch:DeleteDashboards", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard"]
      resources = ["arn:${local.partition}:cloudwatch::${local.account_id}:dashboard/${local.name}"]
    },
    {
      sid = "AlertTopic"
      actions = [
        "sns:CreateTopic",
        "sns:DeleteTopic",
        "sns:GetTopicAttributes",
        "sns:ListSubscriptionsByTopic",
        "sns:ListTagsForResource",
        "sns:SetTopicAttributes",
        "sns:Subscribe",
        "sns:TagResource",
        "sns:UntagResource",
      ]
      resources = ["${local.arn.sns}:${local.name}-alerts"]
    },
    # It knows no resource.
    { sid = "Unsubscribe", actions = ["sns:Unsubscribe"], resources = ["*"] },
  ]
}
