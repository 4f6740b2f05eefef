# Load balancer, tasks, their scaling and their images.

locals {
  balancer_arns = [
    for kind in ["listener-rule/app", "listener/app", "loadbalancer/app"] : "${local.arn.elasticloadbalancing}:${kind}/${local.name}/*"
  ]
  target_group_arn = "${local.arn.elasticloadbalancing}:targetgroup/${local.name}-*/*"

  compute = [
    {
      sid = "ReadCompute"
      actions = [
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingPolicies",
        "ecr:DescribeRepositories",
        "ecr:GetAuthorizationToken",
        "ecs:DescribeTaskDefinition",
        "ecs:ListTaskDefinitionFamilies",
        "ecs:ListTaskDefinitions",
        "elasticloadbalancing:DescribeCapacityReservation",
        "elasticloadbalancing:DescribeListenerAttributes",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancerAttributes",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
      ]
      resources = ["*"]
    },
    {
      sid = "LoadBalancer"
      actions = [
        "elasticloadbalancing:AddTags",
        "elasticloadbalancing:CreateListener",
        "elasticloadbalancing:CreateLoadBalancer",
        "elasticloadbalancing:CreateRule",
        "elasticloadbalancing:CreateTargetGroup",
        "elasticloadbalancing:DeleteListener",
        "elasticloadbalancing:DeleteLoadBalancer",
        "elasticloadbalancing:DeleteRule",
        "elasticloadbalancing:DeleteTargetGroup",
        "elasticloadbalancing:ModifyListener",
        "elasticloadbalancing:ModifyListenerAttributes",
        "elasticloadbalancing:ModifyLoadBalancerAttributes",
        "elasticloadbalancing:ModifyRule",
        "elasticloadbalancing:ModifyTargetGroup",
        "elasticloadbalancing:ModifyTargetGroupAttributes",
        "elasticloadbalancing:RemoveTags",
        "elasticloadbalancing:SetIpAddressType",
        "elasticloadbalancing:SetRulePriorities",
        "elasticloadbalancing:SetSecurityGroups",
        "elasticloadbalancing:SetSubnets",
      ]
      resources = concat(local.balancer_arns, [local.target_group_arn])
    },
    {
      sid = "Tasks"
      actions = [
        "ecs:CreateCluster",
        "ecs:CreateService",
        "ecs:DeleteCluster",
        "ecs:DeleteService",
        "ecs:DescribeClusters",
        "ecs:DescribeServices",
        "ecs:DescribeTasks",
        "ecs:ListTagsForResource",
        "ecs:PutClusterCapacityProviders",
        "ecs:TagResource",
        "ecs:UntagResource",
        "ecs:UpdateCluster",
        "ecs:UpdateClusterSettings",
        "ecs:UpdateService",
      ]
      resources = [
        "${local.arn.ecs}:cluster/${local.name}",
        "${local.arn.ecs}:service/${local.name}/*",
        "${local.arn.ecs}:task-definition/${local.name}-*",
        "${local.arn.ecs}:task/${local.name}/*",
      ]
    },
    { sid = "RegisterTaskDefinition", actions = ["ecs:RegisterTaskDefinition"], resources = ["*"], conditions = local.tagged },
    # It knows neither resource nor tag: running tasks are not touched by it.
    { sid = "DeregisterTaskDefinition", actions = ["ecs:DeregisterTaskDefinition"], resources = ["*"] },
    {
      sid        = "ListTasks"
      actions    = ["ecs:ListTasks"]
      resources  = ["*"]
      conditions = [{ test = "ArnEquals", variable = "ecs:cluster", values = ["${local.arn.ecs}:cluster/${local.name}"] }]
    },
    {
      sid = "Scaling"
      actions = [
        "application-autoscaling:DeleteScalingPolicy",
        "application-autoscaling:DeregisterScalableTarget",
        "application-autoscaling:ListTagsForResource",
        "application-autoscaling:PutScalingPolicy",
        "application-autoscaling:RegisterScalableTarget",
        "application-autoscaling:TagResource",
        "application-autoscaling:UntagResource",
      ]
      resources  = ["${local.arn["application-autoscaling"]}:scalable-target/*"]
      conditions = [{ test = "StringEqualsIfExists", variable = "application-autoscaling:service-namespace", values = ["ecs"] }]
    },
    {
      sid = "Images"
      actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchDeleteImage",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:CreateRepository",
        "ecr:DeleteLifecyclePolicy",
        "ecr:DeleteRepository",
        "ecr:DescribeImages",
        "ecr:GetDownloadUrlForLayer",
        "ecr:GetLifecyclePolicy",
        "ecr:InitiateLayerUpload",
        "ecr:ListTagsForResource",
        "ecr:PutImage",
        "ecr:PutImageScanningConfiguration",
        "ecr:PutImageTagMutability",
        "ecr:PutLifecyclePolicy",
        "ecr:TagResource",
        "ecr:UntagResource",
        "ecr:UploadLayerPart",
      ]
      resources = ["${local.arn.ecr}:repository/${local.name}/*"]
    },
  ]
}
