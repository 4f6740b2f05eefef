"""Checks a whole deployed target by its Terraform state, where every ARN is known: permissions, network paths, encryption.

`terraform test` asserts the modules one by one.

Run as `deployed_checks.py STATE_FILE`, of a target with the REST API and everything optional switched on.
Prints a line for each check and ends with `N passed, N failed`.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
from pathlib import Path
from typing import Callable, Iterator

import botocore.session

import openapi_import

CHECKS: list[Callable[["State"], Iterator[str]]] = []

# Reads, and what AWS says knows no resource.
WITHOUT_A_RESOURCE = {
    "dynamodb:ListStreams", "ecr:GetAuthorizationToken", "servicediscovery:DiscoverInstances",
}
# The one exception to "no * beside a write": network interfaces of the function in the VPC, denied to its code.
NETWORK_INTERFACES = {
    "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
}

# PartiQL's INSERT fails on an item that is there. PutItem replaces it.
APPEND_ONLY = {"dynamodb:PartiQLInsert", "dynamodb:Query"}
READ_SECRETS = {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:ListSecretVersionIds"}

# Everything that a role may do: actions by the end of the resource's ARN. Nothing else may be allowed.
ROLES = {
    "config-service": {
        "table/*": {"dynamodb:GetItem", "dynamodb:PartiQLDelete", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate", "dynamodb:Query",
                    "dynamodb:Scan"},
        "table/*Journal": {"dynamodb:PartiQLInsert", "dynamodb:Query"},
        "table/*History": APPEND_ONLY,
        "table/*History/index/ByTime": {"dynamodb:Query"},
        "parameter*/config/*": {"ssm:GetParameterHistory", "ssm:GetParameters"},
        "*-blobs-*": {"s3:ListBucket", "s3:ListBucketVersions"},
        "*-blobs-*/tenants/*": {"s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"},
        "*-blobs-*/global/*": {"s3:GetObject", "s3:GetObjectVersion"},
        "secret:*/config/tenants/*": READ_SECRETS,
        "secret:*/config/global/*": READ_SECRETS,
        "key/*": {"kms:Decrypt", "kms:GenerateDataKey"},
        "jwks.json": {"s3:GetObject"},
        "[*]": {"servicediscovery:DiscoverInstances"},
    },
    "order-service": {"jwks.json": {"s3:GetObject"}},
    "invalidator": {
        "table/*/stream/*": {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"},
        "table/*Journal": {"dynamodb:PutItem"},
        "table/*History": APPEND_ONLY,
        "parameter*/config/*": {"ssm:GetParameters"},
        "*-blobs-*": {"s3:ListBucket"},
        "*-blobs-*/tenants/*": {"s3:GetObject"},
        "*-blobs-*/global/*": {"s3:GetObject"},
        "parameter*/internal/refresh-credential": {"ssm:GetParameter"},
        "parameter*/internal/refresh-credential:[*]": {"ssm:GetParameter"},
        "key/*": {"kms:Decrypt"},
        "*-dead-letter": {"sqs:SendMessage"},
        "log-group:/aws/lambda/*-invalidator:[*]": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "[*]": {"dynamodb:ListStreams", "servicediscovery:DiscoverInstances"} | NETWORK_INTERFACES,
    },
    "jwks-mirror": {
        "jwks.json": {"s3:GetObject", "s3:PutObject"},
        "*-jwks-mirror-dead-letter": {"sqs:SendMessage"},
        "log-group:/aws/lambda/*-jwks-mirror:[*]": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
}

# The variables whose names say secret and that hold none: what the names of secrets begin with, for config-service and for the
# load test.
NO_SECRET = {"TAGGED_CONFIG_SECRET_ROOT", "SECRET_ROOT"}

# Names and descriptions that AWS refuses at apply and neither the provider nor moto does. Which member of which call an argument
# becomes: its pattern and lengths are those of the service's model.
MODELLED = {
    "aws_apigatewayv2_api": ("apigatewayv2", "CreateApi", {"name": "Name", "description": "Description"}),
    "aws_cloudwatch_event_rule": ("events", "PutRule", {"name": "Name", "description": "Description"}),
    "aws_cloudwatch_log_group": ("logs", "CreateLogGroup", {"name": "logGroupName"}),
    "aws_cloudwatch_metric_alarm": ("cloudwatch", "PutMetricAlarm", {"alarm_name": "AlarmName", "alarm_description": "AlarmDescription"}),
    "aws_cognito_user_pool": ("cognito-idp", "CreateUserPool", {"name": "PoolName"}),
    "aws_cognito_user_pool_client": ("cognito-idp", "CreateUserPoolClient", {"name": "ClientName"}),
    "aws_ecr_repository": ("ecr", "CreateRepository", {"name": "repositoryName"}),
    "aws_iam_role": ("iam", "CreateRole", {"name": "RoleName", "description": "Description"}),
    "aws_iam_role_policy": ("iam", "PutRolePolicy", {"name": "PolicyName"}),
    "aws_kms_alias": ("kms", "CreateAlias", {"name": "AliasName"}),
    "aws_kms_key": ("kms", "CreateKey", {"description": "Description"}),
    "aws_lambda_function": ("lambda", "CreateFunction", {"function_name": "FunctionName", "description": "Description"}),
    "aws_service_discovery_private_dns_namespace": (
        "servicediscovery", "CreatePrivateDnsNamespace", {"name": "Name", "description": "Description"}),
    "aws_service_discovery_service": ("servicediscovery", "CreateService", {"name": "Name", "description": "Description"}),
    "aws_ssm_parameter": ("ssm", "PutParameter", {"name": "Name", "description": "Description"}),
    "aws_wafv2_ip_set": ("wafv2", "CreateIPSet", {"name": "Name", "description": "Description"}),
    "aws_wafv2_web_acl": ("wafv2", "CreateWebACL", {"name": "Name", "description": "Description"}),
}
# What the models say in prose only.
_GROUP_TEXT = r"[A-Za-z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{0,255}"
_BALANCER_NAME = r"(?!internal-)[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
DOCUMENTED = {
    "aws_apigatewayv2_vpc_link": {"name": r".{1,128}"},
    "aws_ecs_cluster": {"name": r"[A-Za-z0-9_-]{1,255}"},
    "aws_ecs_service": {"name": r"[A-Za-z0-9_-]{1,255}"},
    "aws_ecs_task_definition": {"family": r"[A-Za-z0-9_-]{1,255}"},
    "aws_lb": {"name": _BALANCER_NAME},
    "aws_lb_target_group": {"name": _BALANCER_NAME},
    "aws_s3_bucket": {"bucket": r"(?!xn--|sthree-)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"},
    "aws_security_group": {"name": rf"(?!sg-){_GROUP_TEXT}", "description": _GROUP_TEXT},
    "aws_sns_topic": {"name": r"[A-Za-z0-9_-]{1,256}"},
    "aws_sqs_queue": {"name": r"[A-Za-z0-9_-]{1,80}"},
    "aws_vpc_security_group_egress_rule": {"description": _GROUP_TEXT},
    "aws_vpc_security_group_ingress_rule": {"description": _GROUP_TEXT},
}
TAG_VALUE = r"[\w\s.:/=+@-]{0,256}"


class State:
    """The managed resources of a state file."""

    def __init__(self, file: Path) -> None:
        self._resources = [r for r in json.loads(file.read_text())["resources"] if r["mode"] == "managed"]

    def all(self, kind: str) -> list[dict]:
        """Attributes of every resource of a type."""
        return [instance["attributes"] for r in self._resources if r["type"] == kind for instance in r["instances"]]

    def keyed(self, kind: str) -> dict[str, dict]:
        """The same by the key of `for_each`."""
        return {
            str(instance.get("index_key")): instance["attributes"]
            for r in self._resources if r["type"] == kind for instance in r["instances"]
        }

    def everything(self) -> Iterator[tuple[str, dict]]:
        """Every resource with its address, roughly."""
        for r in self._resources:
            for instance in r["instances"]:
                yield f"{r.get('module', 'root')}.{r['type']}.{r['name']}", instance["attributes"]

    def statements(self, role: str = "*") -> Iterator[tuple[str, dict]]:
        """Statements of the roles' own policies, with the role's name."""
        for policy in self.all("aws_iam_role_policy"):
            if fnmatch.fnmatch(policy["role"], role):
                for statement in _list(json.loads(policy["policy"])["Statement"]):
                    yield policy["role"], statement


def check(function: Callable[[State], Iterator[str]]) -> Callable[[State], Iterator[str]]:
    """Its docstring is the check's title; it yields one line for each thing that is wrong."""
    CHECKS.append(function)
    return function


@check
def tags(state: State) -> Iterator[str]:
    """everything that can be tagged names project, environment and maker"""
    for address, attributes in state.everything():
        if "tags_all" in attributes and not {"Project", "Environment", "ManagedBy"} <= set(attributes["tags_all"] or {}):
            yield address


@check
def writes_name_their_resource(state: State) -> Iterator[str]:
    """no role has * beside a write, except for network interfaces of the function in the VPC"""
    for role, statement in state.statements():
        if statement["Effect"] != "Allow" or "*" not in _list(statement["Resource"]):
            continue
        actions = set(_list(statement["Action"]))
        if not (actions <= WITHOUT_A_RESOURCE or (role.endswith("-invalidator") and actions == NETWORK_INTERFACES)):
            yield f"{role}: {statement['Sid']}"


@check
def no_wild_actions(state: State) -> Iterator[str]:
    """no role is allowed an action with a *"""
    for role, statement in state.statements():
        if statement["Effect"] == "Allow" and any("*" in action for action in _list(statement["Action"])):
            yield f"{role}: {statement['Sid']}"


@check
def matrix(state: State) -> Iterator[str]:
    """each role has exactly the actions and resources of the matrix"""
    for name, expected in ROLES.items():
        found: dict[str, set[str]] = {}
        for role, statement in state.statements(f"*-{name}"):
            if statement["Effect"] != "Allow":
                continue
            for resource in _list(statement["Resource"]):
                ends = [end for end in expected if fnmatch.fnmatchcase(resource, end if end == "[*]" else f"*{end}")]
                # The most exact one: a stream lies below its table.
                found.setdefault(max(ends, key=len, default=resource), set()).update(_list(statement["Action"]))
        for end in sorted(expected.keys() | found.keys()):
            if found.get(end, set()) != expected.get(end, set()):
                yield f"{name} on {end}: {sorted(found.get(end, set()) ^ expected.get(end, set()))}"


@check
def attached(state: State) -> Iterator[str]:
    """no role has a policy of AWS"""
    for attachment in state.all("aws_iam_role_policy_attachment"):
        yield f"{attachment['role']}: {attachment['policy_arn']}"


@check
def decryption(state: State) -> Iterator[str]:
    """keys are used through the services whose data they encrypt, and no other way"""
    for role, statement in state.statements():
        through = statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService")
        if any(action.startswith("kms:") for action in _list(statement["Action"])) and not through:
            yield f"{role}: {statement['Sid']}"


@check
def refresh_port(state: State) -> Iterator[str]:
    """the refresh port admits the invalidator, and config-service's own tasks, only"""
    groups = {group["name"].split("-", 3)[-1]: group["id"] for group in state.all("aws_security_group")}
    rules = [rule for rule in state.all("aws_vpc_security_group_ingress_rule") if rule["from_port"] <= 50052 <= rule["to_port"]]
    found = sorted((rule["referenced_security_group_id"], rule["security_group_id"]) for rule in rules)
    if found != sorted((groups[caller], groups["config-service"]) for caller in ("config-service", "invalidator")):
        yield str(found)


@check
def ingress(state: State) -> Iterator[str]:
    """traffic comes in from named groups only, through one port a rule, each described"""
    for key, rule in state.keyed("aws_vpc_security_group_ingress_rule").items():
        addresses = [rule[name] for name in ("cidr_ipv4", "cidr_ipv6", "prefix_list_id") if rule.get(name)]
        if addresses or not rule["referenced_security_group_id"] or rule["from_port"] != rule["to_port"] or not rule["description"]:
            yield key


@check
def gateways(state: State) -> Iterator[str]:
    """only programs that use DynamoDB and S3 reach their endpoints"""
    expected = {f"{caller}-to-dynamodb" for caller in ("config-service", "invalidator", "load-test")}
    expected |= {f"{caller}-to-s3" for caller in ("config-service", "invalidator", "order-service", "load-test")}
    rules = state.keyed("aws_vpc_security_group_egress_rule")
    yield from sorted(expected ^ {key for key in rules if key.endswith(("-to-dynamodb", "-to-s3"))})


@check
def web_acl(state: State) -> Iterator[str]:
    """the web ACL guards the API's stage"""
    stage = state.all("aws_api_gateway_stage")[0]["arn"]
    guarded = [association["resource_arn"] for association in state.all("aws_wafv2_web_acl_association")]
    if guarded != [stage]:
        yield str(guarded)


@check
def authorizer(state: State) -> Iterator[str]:
    """every path of the API but health wants an ID token of the one client; all go to the load balancer by the VPC link"""
    body = json.loads(state.all("aws_api_gateway_rest_api")[0]["body"])
    client = state.all("aws_cognito_user_pool_client")[0]["id"]
    pool = state.all("aws_cognito_user_pool")[0]["arn"]
    balancer, link = state.all("aws_lb")[0]["arn"], state.all("aws_apigatewayv2_vpc_link")[0]["id"]
    (scheme,) = body["components"]["securitySchemes"].values()
    found = scheme["x-amazon-apigateway-authorizer"]
    if found["providerARNs"] != [pool] or found["identityValidationExpression"] != f"^{client}$":
        yield str(found)
    for path, methods in body["paths"].items():
        for name, method in methods.items():
            target = method["x-amazon-apigateway-integration"]
            wanted = None if path == "/v1/health" else [{"cognito": []}]
            if method.get("security") != wanted:
                yield f"{name} {path} requires {method.get('security')}"
            if (target["connectionType"], target["connectionId"], target["integrationTarget"]) != ("VPC_LINK", link, balancer):
                yield f"{name} {path} goes elsewhere"


@check
def document(state: State) -> Iterator[str]:
    """API Gateway's importer takes the API's document without a warning"""
    yield from openapi_import.problems(json.loads(state.all("aws_api_gateway_rest_api")[0]["body"]))


@check
def users(state: State) -> Iterator[str]:
    """no user can write tenant or role, and none can sign up"""
    for client in state.all("aws_cognito_user_pool_client"):
        yield from (name for name in client["write_attributes"] if name.startswith("custom:"))
        if not client["write_attributes"]:
            yield "write_attributes is empty: Cognito then takes every standard one"
    if not state.all("aws_cognito_user_pool")[0]["admin_create_user_config"][0]["allow_admin_create_user_only"]:
        yield "users can sign up"


@check
def logs(state: State) -> Iterator[str]:
    """every log group has an end and a key"""
    for group in state.all("aws_cloudwatch_log_group"):
        if not group["retention_in_days"] or not group["kms_key_id"]:
            yield group["name"]


@check
def tokens_in_logs(state: State) -> Iterator[str]:
    """no access log holds a token, a query or a body"""
    for stage in state.all("aws_api_gateway_stage"):
        for settings in stage["access_log_settings"]:
            for word in ("authorization", "querystring", "requestOverride", "$context.authorizer.claims}", "$input"):
                if word.lower() in settings["format"].lower():
                    yield word


@check
def containers(state: State) -> Iterator[str]:
    """no container writes to its root, runs as root, keeps a capability, or has a secret in its environment"""
    for definition in state.all("aws_ecs_task_definition"):
        for container in json.loads(definition["container_definitions"]):
            hardened = container["readonlyRootFilesystem"] and container["user"].startswith("65532")
            if not hardened or container["linuxParameters"]["capabilities"]["drop"] != ["ALL"]:
                yield container["name"]
            names = {e["name"] for e in container["environment"]} - NO_SECRET
            yield from sorted(name for name in names if "CREDENTIAL" in name or "SECRET" in name)


@check
def secrets(state: State) -> Iterator[str]:
    """neither the refresh credential nor a tenant's secret is in the state"""
    for parameter in state.all("aws_ssm_parameter"):
        if parameter["type"] == "SecureString" and (parameter.get("value") or parameter.get("insecure_value")):
            yield parameter["name"]
    yield from (version["secret_id"] for version in state.all("aws_secretsmanager_secret_version"))


@check
def dead_letters(state: State) -> Iterator[str]:
    """what cannot be handled is kept: by the rules' targets and by the stream's mapping"""
    # The functions' own queues cannot be seen here: moto forgets them.
    yield from (target["rule"] for target in state.all("aws_cloudwatch_event_target") if not target["dead_letter_config"])
    yield from (m["function_name"] for m in state.all("aws_lambda_event_source_mapping") if not m["destination_config"])


@check
def at_rest(state: State) -> Iterator[str]:
    """tables, queues, topic and buckets are encrypted; keys rotate"""
    yield from (t["name"] for t in state.all("aws_dynamodb_table") if not t["server_side_encryption"][0]["kms_key_arn"])
    yield from (q["name"] for q in state.all("aws_sqs_queue") if not q["sqs_managed_sse_enabled"])
    yield from (t["name"] for t in state.all("aws_sns_topic") if not t["kms_master_key_id"])
    yield from (k["description"] for k in state.all("aws_kms_key") if not k["enable_key_rotation"])
    encrypted = {e["bucket"] for e in state.all("aws_s3_bucket_server_side_encryption_configuration")}
    closed = {
        b["bucket"] for b in state.all("aws_s3_bucket_public_access_block")
        if b["block_public_acls"] and b["block_public_policy"] and b["ignore_public_acls"] and b["restrict_public_buckets"]
    }
    yield from (b["bucket"] for b in state.all("aws_s3_bucket") if b["bucket"] not in encrypted & closed)


@check
def lifetime(state: State) -> Iterator[str]:
    """only entries of journal and history go by themselves: an expired item would be served until DynamoDB removes it"""
    for table in state.all("aws_dynamodb_table"):
        if any(ttl["enabled"] for ttl in table["ttl"]) != table["name"].endswith(("Journal", "History")):
            yield table["name"]


@check
def append_only(state: State) -> Iterator[str]:
    """no role may change or delete an entry of the history, and it can be recovered"""
    (table,) = (table for table in state.all("aws_dynamodb_table") if table["name"].endswith("History"))
    for role, statement in state.statements():
        reached = any(fnmatch.fnmatchcase(arn, resource) or resource.startswith(f"{arn}/")
                      for arn in (table["arn"], f"{table['arn']}/index/ByTime") for resource in _list(statement["Resource"]))
        actions = {action for action in _list(statement["Action"]) if action.startswith(("dynamodb:", "*"))}
        if statement["Effect"] == "Allow" and reached and not actions <= APPEND_ONLY | WITHOUT_A_RESOURCE:
            yield f"{role}: {statement['Sid']}"
    if not table["point_in_time_recovery"][0]["enabled"] or table["stream_enabled"]:
        yield table["name"]


@check
def texts(state: State) -> Iterator[str]:
    """names, descriptions and tags have no character, and no length, that AWS refuses"""
    session = botocore.session.get_session()
    for kind, (service, operation, members) in MODELLED.items():
        shapes = session.get_service_model(service).operation_model(operation).input_shape.members
        for attributes in state.all(kind):
            for name, member in members.items():
                limits, value = shapes[member].metadata, attributes[name] or ""
                fits = limits.get("min", 0) <= len(value) <= limits.get("max", 255)
                if not fits or not re.fullmatch(limits.get("pattern", r"(?s:.*)"), value):
                    yield f"{kind}: {value!r}"
    for kind, patterns in DOCUMENTED.items():
        for attributes in state.all(kind):
            yield from (f"{kind}: {attributes[name]!r}" for name, pattern in patterns.items() if not re.fullmatch(pattern, attributes[name]))
    for address, attributes in state.everything():
        for value in (attributes.get("tags_all") or {}).values():
            if not re.fullmatch(TAG_VALUE, value):
                yield f"{address}: tag {value!r}"


@check
def endpoints(state: State) -> Iterator[str]:
    """every endpoint has a policy of its own, for this account, and none lets every action through"""
    for endpoint in state.all("aws_vpc_endpoint"):
        for statement in _list(json.loads(endpoint["policy"])["Statement"]):
            if "*" in _list(statement["Action"]) or (
                "Condition" not in statement and not all("starport-layer-bucket" in r for r in _list(statement["Resource"]))
            ):
                yield f"{endpoint['service_name']}: {statement.get('Sid')}"


@check
def rollouts(state: State) -> Iterator[str]:
    """a deployment keeps all tasks, and goes back by itself when new ones fail; the first task is never on Spot"""
    for service in state.all("aws_ecs_service"):
        breaker = service["deployment_circuit_breaker"]
        if service["deployment_minimum_healthy_percent"] != 100 or not (breaker and breaker[0]["enable"] and breaker[0]["rollback"]):
            yield service["name"]
        if not any(s["capacity_provider"] == "FARGATE" and s["base"] >= 1 for s in service["capacity_provider_strategy"]):
            yield service["name"]


def _list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def main() -> int:
    state = State(Path(sys.argv[1]))
    failed = 0
    for function in CHECKS:
        try:
            wrong = list(function(state))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            wrong = [f"could not be read: {error!r}"]
        print(f"{'FAIL ' if wrong else 'ok   '} {function.__doc__}{': ' + '; '.join(wrong) if wrong else ''}")
        failed += bool(wrong)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
