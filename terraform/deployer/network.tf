# VPC, endpoints, security groups, Cloud Map and its hosted zone.

locals {
  # A subnet is created in a VPC: the new one with the tags, the other has them.
  ec2_created = [
    "elastic-ip", "internet-gateway", "natgateway", "route-table", "security-group", "security-group-rule", "subnet", "vpc", "vpc-endpoint",
    "vpc-flow-log",
  ]
  ec2_create_actions = [
    "ec2:AllocateAddress",
    "ec2:AuthorizeSecurityGroupEgress",
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateFlowLogs",
    "ec2:CreateInternetGateway",
    "ec2:CreateNatGateway",
    "ec2:CreateRouteTable",
    "ec2:CreateSecurityGroup",
    "ec2:CreateSubnet",
    "ec2:CreateVpc",
    "ec2:CreateVpcEndpoint",
  ]

  network = [
    {
      sid = "ReadNetwork"
      actions = [
        "ec2:DescribeAccountAttributes",
        "ec2:DescribeAddresses",
        "ec2:DescribeAddressesAttribute",
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeFlowLogs",
        "ec2:DescribeInternetGateways",
        "ec2:DescribeNatGateways",
        "ec2:DescribeNetworkAcls",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribePrefixLists",
        "ec2:DescribeRegions",
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroupRules",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcAttribute",
        "ec2:DescribeVpcEndpointServices",
        "ec2:DescribeVpcEndpoints",
        "ec2:DescribeVpcs",
        "route53:GetChange",
        "route53:GetHostedZone",
        "route53:ListHostedZonesByName",
        "route53:ListResourceRecordSets",
        "route53:ListTagsForResource",
        "servicediscovery:GetNamespace",
        "servicediscovery:GetOperation",
        "servicediscovery:GetService",
        "servicediscovery:ListInstances",
        "servicediscovery:ListNamespaces",
        "servicediscovery:ListServices",
        "servicediscovery:ListTagsForResource",
      ]
      resources = ["*"]
    },
    {
      sid        = "Create"
      actions    = local.ec2_create_actions
      resources  = [for type in local.ec2_created : "${local.arn.ec2}:${type}/*"]
      conditions = local.tagged
    },
    {
      sid       = "TagWhatIsCreated"
      actions   = ["ec2:CreateTags"]
      resources = ["${local.arn.ec2}:*/*"]
      conditions = concat(local.tagged, [
        { test = "StringEquals", variable = "ec2:CreateAction", values = [for action in local.ec2_create_actions : split(":", action)[1]] },
      ])
    },
    {
      sid = "UseOwn"
      actions = concat(tolist(setsubtract(local.ec2_create_actions, ["ec2:AllocateAddress", "ec2:CreateInternetGateway", "ec2:CreateVpc"])), [
        "ec2:AssociateRouteTable",
        "ec2:AttachInternetGateway",
        "ec2:CreateRoute",
        "ec2:CreateTags",
        "ec2:DeleteFlowLogs",
        "ec2:DeleteInternetGateway",
        "ec2:DeleteNatGateway",
        "ec2:DeleteRoute",
        "ec2:DeleteRouteTable",
        "ec2:DeleteSecurityGroup",
        "ec2:DeleteSubnet",
        "ec2:DeleteTags",
        "ec2:DeleteVpc",
        "ec2:DeleteVpcEndpoints",
        "ec2:DetachInternetGateway",
        "ec2:DisassociateAddress",
        "ec2:DisassociateRouteTable",
        "ec2:ModifySecurityGroupRules",
        "ec2:ModifySubnetAttribute",
        "ec2:ModifyVpcAttribute",
        "ec2:ModifyVpcEndpoint",
        "ec2:ReleaseAddress",
        "ec2:ReplaceRoute",
        "ec2:ReplaceRouteTableAssociation",
        "ec2:RevokeSecurityGroupEgress",
        "ec2:RevokeSecurityGroupIngress",
      ])
      resources  = ["${local.arn.ec2}:*/*"]
      conditions = local.owned
    },
    # A VPC comes with a security group that has no tags. Terraform adopts it: gives it the tags, and closes it then.
    {
      sid       = "AdoptDefaultGroup"
      actions   = ["ec2:CreateTags"]
      resources = ["${local.arn.ec2}:security-group/*"]
      conditions = concat(local.tagged, [
        { test = "Null", variable = "aws:ResourceTag/Project", values = ["true"] },
      ])
    },
    # Of functions that are gone, left behind by Lambda without tags, and in the way of their subnets. One in use stays: it
    # cannot be detached.
    {
      sid       = "RemoveLeftInterfaces"
      actions   = ["ec2:DeleteNetworkInterface"]
      resources = ["${local.arn.ec2}:network-interface/*"]
      conditions = [
        { test = "Null", variable = "aws:ResourceTag/Project", values = ["true"] },
      ]
    },
    {
      sid        = "CreateNamespace"
      actions    = ["servicediscovery:CreateHttpNamespace", "servicediscovery:CreatePrivateDnsNamespace", "servicediscovery:CreateService", "servicediscovery:TagResource"]
      resources  = ["*"]
      conditions = local.tagged
    },
    {
      sid = "UseOwnNamespace"
      actions = [
        "servicediscovery:CreateService",
        "servicediscovery:DeleteNamespace",
        "servicediscovery:DeleteService",
        "servicediscovery:DeregisterInstance",
        "servicediscovery:UpdateHttpNamespace",
        "servicediscovery:UpdatePrivateDnsNamespace",
        "servicediscovery:UpdateService",
      ]
      resources  = ["${local.arn.servicediscovery}:namespace/*", "${local.arn.servicediscovery}:service/*"]
      conditions = local.owned
    },
    # Cloud Map makes and empties its namespace's zone in the caller's name, endpoints with private DNS are tied to zones of
    # AWS's, and the load test has a zone for the certificate's name. Zones know no tag here.
    {
      sid = "HostedZones"
      actions = [
        "route53:AssociateVPCWithHostedZone",
        "route53:ChangeResourceRecordSets",
        "route53:ChangeTagsForResource",
        "route53:DeleteHostedZone",
        "route53:UpdateHostedZoneComment",
      ]
      resources = ["arn:${local.partition}:route53:::hostedzone/*"]
    },
    { sid = "CreateHostedZone", actions = ["route53:CreateHostedZone"], resources = ["*"] },
  ]
}
