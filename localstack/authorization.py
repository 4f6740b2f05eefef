"""The permissions that AWS checks for a request that a deployment makes: actions, the resources of each, and condition keys.

The emulators do not know them. Moto evaluates every action on `*` and no condition; MiniStack names the resources of some
actions. With this, both evaluate the deployer's policies as they are written: MiniStack by `iam_enforcement`, moto by
`scripts/moto_iam.py`. Resources and keys are those of AWS's Service Authorization Reference.

A request that is not known here is an error on moto: a new resource in the Terraform needs its actions here. MiniStack
then checks the resource that it finds by itself.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Callable, Iterator, Mapping
from urllib.parse import quote, unquote

ANY = "*"
UNKNOWN = None
"""A resource that AWS knows and the request does not name."""


class UnknownRequest(LookupError):
    """It is not known here what AWS authorizes for this request."""


class Unreadable(ValueError):
    """A request whose shape no service accepts."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A request as the emulators hand it over. `operation` is the API's own name of it; `parameters` are its members, flat
    ones of the query protocol included."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    region: str
    account: str
    method: str = "POST"
    path: str = "/"

    def arn(self, service: str, resource: str) -> str:
        """An ARN in the region and account of the call."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def text(self, *names: str) -> str:
        """The first of these parameters that is there."""
        return next((str(self.parameters[name]) for name in names if self.parameters.get(name)), "")


@dataclasses.dataclass(frozen=True)
class Check:
    """One permission to evaluate: an action, a resource and condition keys."""

    action: str
    resource: str | None = ANY
    keys: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def checks(call: Call) -> list[Check]:
    """All permissions that the request needs. Tags of existing resources are not in it: the caller adds them."""
    prefix = IAM_PREFIX.get(call.service, call.service)
    if call.service == "apigateway":
        return list(_api_gateway(call))
    if call.service == "ec2":
        return list(_ec2(call))
    if call.service not in SERVICES:
        raise UnknownRequest(f"{call.service}:{call.operation}")
    tags = request_tags(call)
    action = f"{prefix}:{ACTIONS.get((call.service, call.operation), call.operation)}"
    resources = [ANY] if call.operation in WITHOUT_RESOURCE.get(call.service, ()) else list(SERVICES[call.service](call))
    if not resources:
        raise UnknownRequest(f"{action}: no resource in {sorted(call.parameters)}")
    keys = tags | _keys(call)
    found = [Check(action, resource, keys) for resource in resources]
    if tags and call.service in TAG_ACTIONS and call.operation not in TAG_OPERATIONS:
        found += [Check(f"{prefix}:{TAG_ACTIONS[call.service]}", resource, tags) for resource in _tagged(call, resources)]
    return found + list(_besides(call))


def request_tags(call: Call) -> dict[str, str]:
    """aws:RequestTag/... of the tags that a request sets, in any of the forms that services have for them."""
    found: dict[str, str] = {}
    for name in ("Tags", "tags", "UserPoolTags"):
        value = call.parameters.get(name)
        if isinstance(value, dict):
            found |= {str(key): str(text) for key, text in value.items()}
        for tag in value if isinstance(value, list) else []:
            if not isinstance(tag, dict):
                raise Unreadable(f"a tag is an object, not {tag!r}")
            # The value may be left out.
            lower = {key.lower().removeprefix("tag"): text for key, text in tag.items()}
            found[str(lower.get("key", ""))] = str(lower.get("value", ""))
    for name, value in call.parameters.items():
        flat = re.fullmatch(r"((?:TagSpecification\.\d+\.)?Tags?(?:\.member)?\.\d+)\.Key", name)
        if flat:
            found[str(value)] = str(call.parameters.get(f"{flat[1]}.Value", ""))
    return {f"aws:RequestTag/{name}": value for name, value in found.items()}


# === EC2: ids say what a resource is ===

EC2_TYPES = {
    "eipalloc": "elastic-ip", "eni": "network-interface", "fl": "vpc-flow-log", "igw": "internet-gateway", "nat": "natgateway",
    "rtb": "route-table", "sg": "security-group", "sgr": "security-group-rule", "subnet": "subnet", "vpc": "vpc", "vpce": "vpc-endpoint",
}
EC2_CREATED = {
    "AllocateAddress": "elastic-ip", "AuthorizeSecurityGroupEgress": "security-group-rule",
    "AuthorizeSecurityGroupIngress": "security-group-rule", "CreateFlowLogs": "vpc-flow-log", "CreateInternetGateway": "internet-gateway",
    "CreateNatGateway": "natgateway", "CreateRouteTable": "route-table", "CreateSecurityGroup": "security-group",
    "CreateSubnet": "subnet", "CreateVpc": "vpc", "CreateVpcEndpoint": "vpc-endpoint",
}
# AWS checks neither a rule's other side nor a route's target; a rule goes with its group.
_EC2_NOT_CHECKED = re.compile(r"IpPermissions\..*|.*ReferencedGroupId|GatewayId|NatGatewayId|SecurityGroupRuleId\..*")
_EC2_CHECKED_ANYWAY = {"DeleteNatGateway"}


def _ec2(call: Call) -> Iterator[Check]:
    action = f"ec2:{call.operation}"
    if call.operation.startswith("Describe"):
        yield Check(action)
        return
    tags, created = request_tags(call), EC2_CREATED.get(call.operation)
    if created:
        yield Check(action, call.arn("ec2", f"{created}/*"), tags)
        if tags:
            yield Check("ec2:CreateTags", call.arn("ec2", f"{created}/*"), tags | {"ec2:CreateAction": call.operation})
    named = set()
    for name, value in call.parameters.items():
        if _EC2_NOT_CHECKED.fullmatch(name) and call.operation not in _EC2_CHECKED_ANYWAY:
            continue
        found = re.fullmatch(r"([a-z]+)-[0-9a-f]{8,17}", str(value))
        if found and found[1] in EC2_TYPES:
            named.add(call.arn("ec2", f"{EC2_TYPES[found[1]]}/{value}"))
    keys = tags if call.operation == "CreateTags" else {}
    yield from (Check(action, resource, keys) for resource in sorted(named))
    if not named and not created:
        # AWS authorizes the resources that are associated; the request names the association.
        if call.operation.startswith("Disassociate") and call.text("AssociationId"):
            yield Check(action, UNKNOWN)
        else:
            raise UnknownRequest(f"{action}: no resource in {sorted(call.parameters)}")
    if call.operation == "CreateFlowLogs":
        yield _pass_role(call.text("DeliverLogsPermissionArn"), "vpc-flow-logs.amazonaws.com")
    if call.operation == "CreateVpcEndpoint" and call.text("PrivateDnsEnabled") == "true":
        yield Check("route53:AssociateVPCWithHostedZone", "arn:aws:route53:::hostedzone/*")


# === API Gateway: actions are methods, resources are paths ===


def _api_gateway(call: Call) -> Iterator[Check]:
    path = unquote(call.path).removeprefix("/v2")
    tags = request_tags(call)
    if path.startswith("/tags/"):
        path = f"/tags/{quote(path.removeprefix('/tags/'), safe='')}"
    yield Check(f"apigateway:{call.method}", f"arn:aws:apigateway:{call.region}::{path}", tags)
    if tags and not path.startswith("/tags/"):
        target = quote(f"arn:aws:apigateway:{call.region}::{path}/new", safe="")
        yield Check("apigateway:PUT", f"arn:aws:apigateway:{call.region}::/tags/{target}", tags)
    for change in call.parameters.get("patchOperations") or []:
        if not isinstance(change, dict):
            raise Unreadable(f"a patch operation is an object, not {change!r}")
        if change.get("path") == "/cloudwatchRoleArn" and change.get("value"):
            yield _pass_role(change["value"], "apigateway.amazonaws.com")
        if str(change.get("path", "")).startswith("/accessLogSettings"):
            yield Check("logs:CreateLogDelivery")
    if call.parameters.get("accessLogSettings"):
        yield Check("logs:CreateLogDelivery")


# === services whose requests name their resources ===

IAM_PREFIX = {"monitoring": "cloudwatch", "tagging": "tag"}

ACTIONS = {("lambda", "Invoke"): "InvokeFunction"}
"""Where the action has another name than the operation."""


def _cloudwatch(call: Call) -> Iterator[str]:
    for name in [call.text("AlarmName"), *_members(call, "AlarmNames")]:
        if name:
            yield call.arn("cloudwatch", f"alarm:{name}")
    for name in [call.text("DashboardName"), *_members(call, "DashboardNames")]:
        if name:
            yield f"arn:aws:cloudwatch::{call.account}:dashboard/{name}"
    yield from _arn(call, "ResourceARN")


def _cognito(call: Call) -> Iterator[str]:
    pool = call.text("UserPoolId")
    if pool:
        yield call.arn("cognito-idp", f"userpool/{pool}")
    yield from _arn(call, "ResourceArn")


def _dynamodb(call: Call) -> Iterator[str]:
    table = call.text("TableName", "ResourceArn", "StreamArn")
    if table:
        yield table if table.startswith("arn:") else call.arn("dynamodb", f"table/{table}")


def _ecr(call: Call) -> Iterator[str]:
    names = [call.text("repositoryName"), *(call.parameters.get("repositoryNames") or [])]
    if call.operation == "DescribeRepositories" and not any(names):
        names = ["*"]
    yield from (call.arn("ecr", f"repository/{name}") for name in names if name)
    yield from _arn(call, "resourceArn")


def _ecs(call: Call) -> Iterator[str]:
    cluster = (call.text("cluster", "clusterName") or "default").rpartition("/")[2]
    if "Cluster" in call.operation:
        clusters = call.parameters.get("clusters") or [cluster]
        yield from (call.arn("ecs", f"cluster/{name.rpartition('/')[2]}") for name in clusters)
    for name in [call.text("service", "serviceName"), *(call.parameters.get("services") or [])]:
        if name:
            yield call.arn("ecs", f"service/{cluster}/{name.rpartition('/')[2]}")
    yield from (call.arn("ecs", f"task/{cluster}/{task.rpartition('/')[2]}") for task in call.parameters.get("tasks") or [])
    yield from _arn(call, "resourceArn")


def _events(call: Call) -> Iterator[str]:
    name = call.text("Rule") or call.text("Name")
    if name:
        yield call.arn("events", f"rule/{name}")
    yield from _arn(call, "ResourceARN")


def _iam(call: Call) -> Iterator[str]:
    if call.operation == "CreateServiceLinkedRole":
        yield f"arn:aws:iam::{call.account}:role/aws-service-role/{call.text('AWSServiceName')}/new"
    for kind in ("Role", "User"):
        name = call.text(f"{kind}Name")
        # The path of a service's own role names the service, which the request does not.
        path = "aws-service-role/ecs.amazonaws.com/" if name.startswith("AWSServiceRoleFor") else ""
        if call.operation == f"Create{kind}" and call.text("Path").strip("/"):
            path = f"{call.text('Path').strip('/')}/"
        if name:
            yield f"arn:aws:iam::{call.account}:{kind.lower()}/{path}{name}"


def _kms(call: Call) -> Iterator[str]:
    key = call.text("TargetKeyId", "KeyId")
    if key:
        # An alias that a key is named by stands for the key.
        yield key if key.startswith("arn:") else call.arn("kms", f"key/{key}")
    if call.text("AliasName"):
        yield call.arn("kms", call.text("AliasName"))


def _lambda(call: Call) -> Iterator[str]:
    path = unquote(call.path)
    function = re.search(r"/functions/([^/?]+)", path)
    if function or call.operation == "CreateFunction":
        name = _function(function[1] if function else call.text("FunctionName"))
        qualifier = f":{call.text('Qualifier')}" if call.text("Qualifier") else ""
        yield call.arn("lambda", f"function:{name}{qualifier}")
    mapping = re.search(r"/event-source-mappings/([^/?]+)", path)
    if mapping:
        yield call.arn("lambda", f"event-source-mapping:{mapping[1]}")
    tagged = re.search(r"/tags/(.+)", path)
    if tagged:
        yield tagged[1]


def _function(text: str) -> str:
    """The name, with its qualifier, in any of the forms that Lambda takes: a name, a partial ARN or an ARN."""
    return text.rpartition("function:")[2]


def _load_balancing(call: Call) -> Iterator[str]:
    new = {"CreateLoadBalancer": "loadbalancer/app/{}/new", "CreateTargetGroup": "targetgroup/{}/new"}.get(call.operation)
    if new:
        yield call.arn("elasticloadbalancing", new.format(call.text("Name")))
        return
    yield from _arn(call, "LoadBalancerArn", "ListenerArn", "RuleArn", "TargetGroupArn")
    yield from _members(call, "ResourceArns")


def _logs(call: Call) -> Iterator[str]:
    if call.text("logGroupName"):
        yield call.arn("logs", f"log-group:{call.text('logGroupName')}:*")
    yield from _arn(call, "resourceArn")


def _service_discovery(call: Call) -> Iterator[str]:
    identifier = call.text("Id")
    if identifier:
        yield call.arn("servicediscovery", f"{'namespace' if 'Namespace' in call.operation else 'service'}/{identifier}")
    if call.operation == "CreateService":
        dns = call.parameters.get("DnsConfig") or {}
        yield call.arn("servicediscovery", f"namespace/{call.text('NamespaceId') or dns.get('NamespaceId')}")
    if call.operation in ("DeregisterInstance", "RegisterInstance"):
        yield call.arn("servicediscovery", f"service/{call.text('ServiceId')}")


def _sns(call: Call) -> Iterator[str]:
    if call.operation == "CreateTopic":
        yield call.arn("sns", call.text("Name"))
    yield from _arn(call, "TopicArn", "ResourceArn")


def _sqs(call: Call) -> Iterator[str]:
    name = call.text("QueueName") or call.text("QueueUrl").rpartition("/")[2]
    if name:
        yield call.arn("sqs", name)


def _ssm(call: Call) -> Iterator[str]:
    for name in [call.text("Name", "ResourceId", "Path"), *map(str, call.parameters.get("Names") or [])]:
        # A name or an ARN, perhaps with a version or a label.
        path = name.partition(":parameter/")[2] if name.startswith("arn:") else name.lstrip("/")
        if path:
            yield call.arn("ssm", f"parameter/{path.partition(':')[0]}")
    if call.text("SettingId"):
        yield call.arn("ssm", f"servicesetting/{call.text('SettingId').lstrip('/')}")


def _wafv2(call: Call) -> Iterator[str]:
    for kind in ("IPSet", "WebACL"):
        if call.text("Name") and call.operation.endswith(kind):
            yield call.arn("wafv2", f"regional/{kind.lower()}/{call.text('Name')}/{call.text('Id') or 'new'}")
    yield from _arn(call, "WebACLArn", "ResourceArn", "ResourceARN")
    yield from [arn for arn in [(call.parameters.get("LoggingConfiguration") or {}).get("ResourceArn")] if arn]


def _s3(call: Call) -> Iterator[str]:
    bucket, _, key = unquote(call.path).strip("/").partition("/")
    if not bucket:
        yield ANY
        return
    # A list of objects to delete is in the body.
    key = key or ("*" if call.operation == "DeleteObject" else "")
    yield f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"


def _sts(call: Call) -> Iterator[str]:
    yield from _arn(call, "RoleArn")


def _secrets(call: Call) -> Iterator[str]:
    name = call.text("SecretId") or call.text("Name")
    if name:
        # The ARN ends in six characters that a name does not have.
        yield name if name.startswith("arn:") else call.arn("secretsmanager", f"secret:{name}-??????")


def _none(_: Call) -> Iterator[str]:
    yield ANY


SERVICES: dict[str, Callable[[Call], Iterator[str]]] = {
    "application-autoscaling": _none,
    "cognito-idp": _cognito,
    "dynamodb": _dynamodb,
    "ecr": _ecr,
    "ecs": _ecs,
    "elasticloadbalancing": _load_balancing,
    "events": _events,
    "iam": _iam,
    "kms": _kms,
    "lambda": _lambda,
    "logs": _logs,
    "monitoring": _cloudwatch,
    "s3": _s3,
    "secretsmanager": _secrets,
    "servicediscovery": _service_discovery,
    "servicequotas": _none,
    "sns": _sns,
    "sqs": _sqs,
    "ssm": _ssm,
    "sts": _sts,
    "tagging": _none,
    "wafv2": _wafv2,
}

WITHOUT_RESOURCE = {
    "cognito-idp": {"CreateUserPool", "DescribeUserPoolDomain"},
    "ecr": {"GetAuthorizationToken"},
    "ecs": {
        "DeregisterTaskDefinition", "DescribeTaskDefinition", "ListTaskDefinitionFamilies", "ListTaskDefinitions", "ListTasks",
        "RegisterTaskDefinition",
    },
    "elasticloadbalancing": {
        "DescribeCapacityReservation", "DescribeListenerAttributes", "DescribeListeners", "DescribeLoadBalancerAttributes",
        "DescribeLoadBalancers", "DescribeRules", "DescribeTags", "DescribeTargetGroupAttributes", "DescribeTargetGroups",
        "DescribeTargetHealth",
    },
    "iam": {"ListRoles"},
    "kms": {"CreateKey", "ListAliases"},
    "lambda": {"CreateEventSourceMapping", "GetAccountSettings", "ListEventSourceMappings"},
    "logs": {
        "DeleteQueryDefinition", "DeleteResourcePolicy", "DescribeLogGroups", "DescribeQueryDefinitions", "DescribeResourcePolicies",
        "PutQueryDefinition", "PutResourcePolicy",
    },
    "monitoring": {"DescribeAlarms"},
    "servicediscovery": {
        "CreateHttpNamespace", "CreatePrivateDnsNamespace", "GetOperation", "ListInstances", "ListNamespaces", "ListServices",
        "ListTagsForResource", "TagResource", "UntagResource",
    },
    "sns": {"GetSubscriptionAttributes", "Unsubscribe"},
    "secretsmanager": {"BatchGetSecretValue", "GetRandomPassword", "ListSecrets"},
    "ssm": {"DescribeParameters"},
    "sts": {"DecodeAuthorizationMessage", "GetAccessKeyInfo", "GetCallerIdentity", "GetServiceBearerToken", "GetSessionToken"},
}

TAG_ACTIONS = {
    "cognito-idp": "TagResource", "dynamodb": "TagResource", "ecr": "TagResource", "ecs": "TagResource", "elasticloadbalancing": "AddTags",
    "events": "TagResource", "iam": "TagRole", "kms": "TagResource", "lambda": "TagResource", "logs": "TagResource",
    "monitoring": "TagResource", "secretsmanager": "TagResource", "servicediscovery": "TagResource", "sns": "TagResource", "sqs": "TagQueue",
    "ssm": "AddTagsToResource", "wafv2": "TagResource",
}
"""The further permission for creating something with tags."""
TAG_OPERATIONS = {"AddTags", "AddTagsToResource", "TagQueue", "TagResource", "TagRole"}

def _tagged(call: Call, resources: list[str]) -> list[str]:
    """The resource that gets the tags of a request, if the request does not name it: it is new, and has no id yet."""
    named = {
        ("lambda", "CreateEventSourceMapping"): "event-source-mapping:new",
        ("kms", "CreateKey"): "key/new",
        ("cognito-idp", "CreateUserPool"): "userpool/new",
        ("ecs", "RegisterTaskDefinition"): f"task-definition/{call.text('family')}:1",
    }.get((call.service, call.operation))
    if named:
        return [call.arn(call.service, named)]
    above = {"CreateListener": ":loadbalancer/ :listener/", "CreateRule": ":listener/ :listener-rule/"}.get(call.operation)
    return [f"{resource.replace(*above.split())}/new" for resource in resources] if above else resources


def _members(call: Call, name: str) -> list[str]:
    """A list parameter, of JSON or of the query protocol."""
    value = call.parameters.get(name)
    if isinstance(value, list):
        return value
    return [str(text) for key, text in call.parameters.items() if re.fullmatch(rf"{name}\.member\.\d+", key)]


def _arn(call: Call, *names: str) -> Iterator[str]:
    yield from (str(call.parameters[name]) for name in names if call.parameters.get(name))


def _keys(call: Call) -> dict[str, Any]:
    """Condition keys that the request itself holds."""
    keys: dict[str, Any] = {}
    if call.service == "iam":
        keys |= {"iam:PolicyARN": call.text("PolicyArn")} if call.text("PolicyArn") else {}
        keys |= {"iam:PermissionsBoundary": call.text("PermissionsBoundary")} if call.text("PermissionsBoundary") else {}
        keys |= {"iam:AWSServiceName": call.text("AWSServiceName")} if call.text("AWSServiceName") else {}
    if call.service == "lambda" and call.operation == "CreateEventSourceMapping":
        keys["lambda:FunctionArn"] = call.arn("lambda", f"function:{_function(call.text('FunctionName'))}")
    if call.service == "ecs" and call.text("cluster"):
        keys["ecs:cluster"] = call.arn("ecs", f"cluster/{call.text('cluster').rpartition('/')[2]}")
    return keys


def _pass_role(role: str, service: str) -> Check:
    return Check("iam:PassRole", role, {"iam:PassedToService": service})


def _besides(call: Call) -> Iterator[Check]:
    """Permissions that the service checks on behalf of the caller."""
    # The versions in a list of objects to delete are in a body that is not read here.
    if call.service == "s3" and call.operation == "DeleteObject" and (call.method == "POST" or call.text("versionId")):
        yield from (Check("s3:DeleteObjectVersion", resource) for resource in _s3(call))
    if call.service == "lambda" and call.text("Role"):
        yield _pass_role(call.text("Role"), "lambda.amazonaws.com")
    if call.service == "ecs":
        for name in ("executionRoleArn", "taskRoleArn"):
            if call.text(name):
                yield _pass_role(call.text(name), "ecs-tasks.amazonaws.com")
    if call.service == "dynamodb" and call.operation == "CreateTable":
        encryption = call.parameters.get("SSESpecification") or {}
        if not isinstance(encryption, dict):
            raise Unreadable(f"SSESpecification is an object, not {encryption!r}")
        key = encryption.get("KMSMasterKeyId")
        if key:
            via = {"kms:ViaService": f"dynamodb.{call.region}.amazonaws.com"}
            yield Check("kms:DescribeKey", key, via)
            yield Check("kms:Decrypt", key, via)
            yield Check("kms:CreateGrant", key, via | {"kms:GrantIsForAWSResource": "true"})
    encrypted = call.text("Type") == "SecureString" and not call.text("KeyId").startswith("alias/aws/")
    if call.service == "ssm" and call.operation == "PutParameter" and encrypted and call.text("KeyId"):
        yield Check("kms:Encrypt", call.text("KeyId"), {"kms:ViaService": f"ssm.{call.region}.amazonaws.com"})
    if call.service == "servicediscovery" and call.operation == "CreatePrivateDnsNamespace":
        yield Check("route53:CreateHostedZone")
        yield Check("ec2:DescribeVpcs")
    if call.service == "servicediscovery" and call.operation == "DeleteNamespace":
        yield Check("route53:DeleteHostedZone", "arn:aws:route53:::hostedzone/new")
    if call.service == "wafv2" and call.operation in ("AssociateWebACL", "DisassociateWebACL"):
        guarded = call.text("ResourceArn")
        if ":apigateway:" in guarded:
            yield Check("apigateway:SetWebACL", guarded)
        else:
            yield Check("elasticloadbalancing:SetWebAcl")
    if call.service == "wafv2" and call.operation == "PutLoggingConfiguration":
        yield Check("logs:CreateLogDelivery")
        yield Check(
            "iam:CreateServiceLinkedRole", f"arn:aws:iam::{call.account}:role/aws-service-role/wafv2.amazonaws.com/new",
            {"iam:AWSServiceName": "wafv2.amazonaws.com"},
        )


def members(service: str, operation: str, body: bytes) -> dict[str, Any]:
    """The members of a JSON body, and none of any other. An object and a function's input are not the request's own."""
    if service == "s3" or (service == "lambda" and operation.startswith("Invoke")):
        return {}
    try:
        found = json.loads(body) if body[:1] == b"{" else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
