# API Gateway and the web ACL. The actions of API Gateway are HTTP's; its ARNs are its API's paths, with ids in them.

locals {
  api_collections = ["apis", "restapis", "vpclinks"]

  edge = [
    # API Gateway's account resource holds the role that it logs with.
    {
      sid     = "ReadApis"
      actions = ["apigateway:GET"]
      resources = concat(
        flatten([for kind in local.api_collections : ["${local.gateway_arn}:/${kind}", "${local.gateway_arn}:/${kind}/*"]]),
        ["${local.gateway_arn}:/account", "${local.gateway_arn}:/tags/*"],
      )
    },
    {
      sid        = "CreateApis"
      actions    = ["apigateway:POST"]
      resources  = [for kind in local.api_collections : "${local.gateway_arn}:/${kind}"]
      conditions = local.tagged
    },
    {
      sid        = "OwnApis"
      actions    = ["apigateway:DELETE", "apigateway:PATCH", "apigateway:POST", "apigateway:PUT"]
      resources  = [for kind in local.api_collections : "${local.gateway_arn}:/${kind}/*"]
      conditions = local.owned
    },
    {
      sid        = "GuardOwnStages"
      actions    = ["apigateway:SetWebACL"]
      resources  = ["${local.gateway_arn}:/restapis/*/stages/*"]
      conditions = local.owned
    },
    # An API, a stage and a link get their tags by a request to this path too, whose name holds theirs.
    {
      sid        = "TagApis"
      actions    = ["apigateway:POST", "apigateway:PUT"]
      resources  = ["${local.gateway_arn}:/tags/*"]
      conditions = local.tagged
    },
    {
      sid = "WebAcl"
      actions = [
        "wafv2:AssociateWebACL",
        "wafv2:CreateIPSet",
        "wafv2:CreateWebACL",
        "wafv2:DeleteIPSet",
        "wafv2:DeleteLoggingConfiguration",
        "wafv2:DeleteWebACL",
        "wafv2:DisassociateWebACL",
        "wafv2:GetIPSet",
        "wafv2:GetLoggingConfiguration",
        "wafv2:GetWebACL",
        "wafv2:GetWebACLForResource",
        "wafv2:ListTagsForResource",
        "wafv2:PutLoggingConfiguration",
        "wafv2:TagResource",
        "wafv2:UntagResource",
        "wafv2:UpdateIPSet",
        "wafv2:UpdateWebACL",
      ]
      resources = ["${local.arn.wafv2}:regional/ipset/${local.name}-unlimited/*", "${local.arn.wafv2}:regional/webacl/${local.name}/*"]
    },
    # AWS's own groups of rules, which the ACL refers to.
    {
      sid       = "ManagedRules"
      actions   = ["wafv2:CreateWebACL", "wafv2:UpdateWebACL"]
      resources = ["${local.arn.wafv2}:regional/managedruleset/*/*"]
    },
    # The resources that the web ACL guards.
    {
      sid     = "GuardedByWebAcl"
      actions = ["wafv2:AssociateWebACL", "wafv2:DisassociateWebACL", "wafv2:GetWebACLForResource"]
      resources = [
        "${local.arn.elasticloadbalancing}:loadbalancer/app/${local.name}/*",
        "${local.gateway_arn}:/restapis/*/stages/*",
      ]
    },
    # Needed to associate an ACL with a load balancer. The action supports no resource.
    { sid = "GuardLoadBalancer", actions = ["elasticloadbalancing:SetWebAcl"], resources = ["*"] },
  ]
}
