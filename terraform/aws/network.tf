# The VPC, its security groups, and the endpoints through which its tasks and functions reach AWS.

module "network" {
  source = "../modules/network"

  name               = local.name
  cidr_block         = var.cidr_block
  availability_zones = local.zones
  ports              = local.ports
  nat                = var.nat
  flow_log_group_arn = local.log_group_arns["flow-logs"]
  load_test_runner   = var.load_test_runner

  permissions_boundary_arn = var.permissions_boundary_arn
}

locals {
  zones = slice(data.aws_availability_zones.available.names, 0, var.availability_zone_count)

  parameters_arn = "arn:${local.partition}:ssm:${var.region}:${local.account_id}:parameter${var.parameter_root}"
}

# Endpoint services that AWS offers here: without this check AWS would refuse a missing one halfway through an apply. The names of the
# endpoints below are repeated, since a data source that depends on a resource is not read before the resource exists.
data "aws_vpc_endpoint_service" "interface" {
  for_each = toset(concat(
    ["data-servicediscovery", "ecr.api", "ecr.dkr", "logs", "ssm"],
    var.secrets ? ["secretsmanager"] : [],
    var.load_test_runner ? ["cognito-idp"] : [],
  ))

  service_name = "com.amazonaws.${var.region}.${each.key}"
  service_type = "Interface"

  lifecycle {
    postcondition {
      condition     = length(setsubtract(local.zones, self.availability_zones)) == 0
      error_message = "${each.key} has no endpoint in ${join(", ", setsubtract(local.zones, self.availability_zones))}: lower availability_zone_count, or take another region."
    }

    postcondition {
      condition     = self.vpc_endpoint_policy_supported
      error_message = "The endpoint of ${each.key} takes no policy in ${var.region}, and none is made without one: take another region."
    }
  }
}

module "endpoint_statements" {
  source = "../modules/network/endpoint_statements"

  region                = var.region
  image_repository_arns = values(module.images.repository_arns)
  log_group_arns = [
    for program in concat(["config-service", "order-service"], var.load_test_runner ? ["load-test", "invalidator"] : []) :
    local.log_group_arns[program]
  ]
  parameters_arn                   = local.parameters_arn
  refresh_credential_parameter_arn = module.refresh_credential.parameter_arn
  table_arn                        = module.storage.table_arn
  journal_table_arn                = module.storage.journal_table_arn
  history_table_arn                = module.storage.history_table_arn
  table_scan_enabled               = var.operator_tenant != null
  blob_bucket_arn                  = one(module.blobs[*].bucket_arn)
  secrets_arn                      = local.secrets_arn
  jwks_object_arn                  = module.jwks_mirror.object_arn
  load_test                        = var.load_test_runner ? { user_pool_arn = module.identity.user_pool_arn } : null
}

module "endpoints" {
  source = "../modules/network/endpoints"

  name            = local.name
  account_id      = local.account_id
  region          = var.region
  vpc_id          = module.network.vpc_id
  subnet_ids      = module.network.private_subnet_ids
  route_table_ids = module.network.private_route_table_ids

  caller_security_group_ids = {
    for name in module.network.api_caller_names : name => module.network.security_group_ids[name]
  }

  interface_endpoints = module.endpoint_statements.interface_endpoints
  gateway_endpoints   = module.endpoint_statements.gateway_endpoints

  # Layers of images come from S3, and the signing keys. The invalidator needs neither, since Lambda itself loads its code: it
  # reads blobs alone. It appends to the journal; Lambda itself reads the table's stream.
  gateway_callers = {
    s3       = setsubtract(module.network.api_caller_names, var.blobs ? [] : ["invalidator"])
    dynamodb = setsubtract(module.network.api_caller_names, ["order-service"])
  }
}
