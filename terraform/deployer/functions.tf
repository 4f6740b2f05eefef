# Functions, what invokes them, and their dead letters.

locals {
  function_arn = "${local.arn.lambda}:function:${local.name}-*"
  mapping_arn  = "${local.arn.lambda}:event-source-mapping:*"

  functions = [
    {
      sid       = "ReadFunctions"
      actions   = ["lambda:GetAccountSettings", "lambda:GetEventSourceMapping", "lambda:ListEventSourceMappings"]
      resources = ["*"]
    },
    {
      sid = "Functions"
      actions = [
        "lambda:AddPermission",
        "lambda:CreateFunction",
        "lambda:DeleteFunction",
        "lambda:DeleteFunctionConcurrency",
        "lambda:DeleteFunctionEventInvokeConfig",
        "lambda:GetFunction",
        "lambda:GetFunctionCodeSigningConfig",
        "lambda:GetFunctionConcurrency",
        "lambda:GetFunctionConfiguration",
        "lambda:GetFunctionEventInvokeConfig",
        "lambda:GetPolicy",
        "lambda:InvokeFunction",
        "lambda:ListTags",
        "lambda:ListVersionsByFunction",
        "lambda:PutFunctionConcurrency",
        "lambda:PutFunctionEventInvokeConfig",
        "lambda:RemovePermission",
        "lambda:TagResource",
        "lambda:UntagResource",
        "lambda:UpdateFunctionCode",
        "lambda:UpdateFunctionConfiguration",
        "lambda:UpdateFunctionEventInvokeConfig",
      ]
      resources = [local.function_arn]
    },
    {
      sid = "StreamMappings"
      actions = [
        "lambda:CreateEventSourceMapping",
        "lambda:DeleteEventSourceMapping",
        "lambda:UpdateEventSourceMapping",
      ]
      resources  = ["*"]
      conditions = [{ test = "ArnLike", variable = "lambda:FunctionArn", values = [local.function_arn] }]
    },
    { sid = "ReadTagsOfStreamMappings", actions = ["lambda:ListTags"], resources = [local.mapping_arn] },
    { sid = "TagStreamMappings", actions = ["lambda:TagResource"], resources = [local.mapping_arn], conditions = local.tagged },
    { sid = "UntagOwnStreamMappings", actions = ["lambda:UntagResource"], resources = [local.mapping_arn], conditions = local.owned },
    {
      sid = "Queues"
      actions = [
        "sqs:CreateQueue",
        "sqs:DeleteQueue",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "sqs:ListQueueTags",
        "sqs:SetQueueAttributes",
        "sqs:TagQueue",
        "sqs:UntagQueue",
      ]
      resources = ["${local.arn.sqs}:${local.name}-*"]
    },
    {
      sid = "Rules"
      actions = [
        "events:DeleteRule",
        "events:DescribeRule",
        "events:ListTagsForResource",
        "events:ListTargetsByRule",
        "events:PutRule",
        "events:PutTargets",
        "events:RemoveTargets",
        "events:TagResource",
        "events:UntagResource",
      ]
      resources = ["${local.arn.events}:rule/${local.name}-*"]
    },
  ]
}
