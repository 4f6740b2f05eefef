"""Finds, and removes, what a destroyed environment leaves behind: what AWS created by itself, and what AWS deletes later."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Callable

import boto3
from botocore.exceptions import ClientError
from launcher.progress import Step

from target import Stack

INTERFACE_WAIT_SECONDS = 1200
INDEX_WAIT_SECONDS = 600
INDEX_PAUSE_SECONDS = 15
MOST_DELETED = 10
"""The number of parameters in one call."""


def find(stack: Stack) -> tuple[list[str], list[str]]:
    """Everything with the environment's tags or its name, and parameters under its root: what is left, and what AWS deletes later.

    The index of tags lags behind by minutes or hours, so what it names is checked at its own service. Roles are not in it, nor what others than
    Terraform made: overrides of tenants, log groups.
    """
    tagging = _client("resourcegroupstaggingapi", stack.region)
    filters = [{"Key": "Project", "Values": ["tagged-config"]}, {"Key": "Environment", "Values": [stack.name]}]
    left, pending = {*named(stack), *parameters(stack)}, set()
    for page in tagging.get_paginator("get_resources").paginate(TagFilters=filters):
        for resource in page["ResourceTagMappingList"]:
            arn = resource["ResourceARN"]
            verdict = _still_there(arn)
            if verdict == "pending":
                pending.add(arn)
            elif verdict:
                left.add(arn)
    return sorted(left), sorted(pending)


def settle(
    stack: Stack, step: Step, *, sweep: bool,
    limit_seconds: float = INDEX_WAIT_SECONDS, pause_seconds: float = INDEX_PAUSE_SECONDS,
) -> tuple[list[str], list[str]]:
    """Like `find`, but gives AWS some minutes before it judges: the index of tags forgets slowly.

    With `sweep` goes, too, what no state knows: parameters that operators made under the root, revisions of task definitions,
    and log groups, which services made under names of their own and make once more by what they write last.
    """
    deadline = time.monotonic() + limit_seconds
    while True:
        if sweep:
            _remove_parameters(stack)
            _remove_log_groups(stack)
            _deregister_task_definitions(stack)
        left, pending = find(stack)
        if not left or time.monotonic() >= deadline:
            step.detail = f"{len(left)} left" if left else "nothing left"
            return left, pending
        step.activity(f"{len(left)} still listed; the index of tags lags by minutes")
        time.sleep(pause_seconds)


def named(stack: Stack) -> list[str]:
    """Resources found by their names: log groups, roles, repositories, buckets."""
    repositories = [
        repository["repositoryArn"]
        for page in _client("ecr", stack.region).get_paginator("describe_repositories").paginate()
        for repository in page["repositories"]
        if repository["repositoryName"].startswith(f"{stack.prefix}/")
    ]
    buckets = [
        f"arn:aws:s3:::{bucket['Name']}"
        for bucket in _client("s3", stack.region).list_buckets()["Buckets"]
        if bucket["Name"].startswith(f"{stack.prefix}-")
    ]
    return [*_log_groups(stack), *_roles(stack), *repositories, *buckets]


def parameters(stack: Stack) -> list[str]:
    """Names of the parameters under the environment's root."""
    root = stack.values("parameter_root")["parameter_root"]
    return [
        parameter["Name"]
        for page in _client("ssm", stack.region).get_paginator("get_parameters_by_path").paginate(Path=root, Recursive=True)
        for parameter in page["Parameters"]
    ]


def wait_for_interfaces(stack: Stack, step: Step) -> None:
    """Waits until no network interface of a function uses the environment's security groups."""
    ec2 = _client("ec2", stack.region)
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"{stack.prefix}-*"]}])
    ids = [group["GroupId"] for group in groups["SecurityGroups"]]
    deadline = time.monotonic() + INTERFACE_WAIT_SECONDS
    while ids and time.monotonic() < deadline:
        found = ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": ids}])["NetworkInterfaces"]
        if not found:
            return
        for interface in found:
            if interface["Status"] == "available":
                try:
                    ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
                except ClientError:
                    pass  # AWS has removed it already, or still uses it
        step.activity(f"{len(found)} network interfaces of functions linger; AWS takes up to 40 minutes")
        time.sleep(15)


def _remove_parameters(stack: Stack) -> None:
    found = parameters(stack)
    for start in range(0, len(found), MOST_DELETED):
        _client("ssm", stack.region).delete_parameters(Names=found[start:start + MOST_DELETED])


def _deregister_task_definitions(stack: Stack) -> None:
    ecs = _client("ecs", stack.region)
    families = ecs.get_paginator("list_task_definition_families").paginate(familyPrefix=f"{stack.prefix}-", status="ACTIVE")
    for family in (family for page in families for family in page["families"]):
        revisions = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, status="ACTIVE")
        for arn in [arn for page in revisions for arn in page["taskDefinitionArns"]]:
            ecs.deregister_task_definition(taskDefinition=arn)


def _remove_log_groups(stack: Stack) -> None:
    logs = _client("logs", stack.region)
    for name in _log_groups(stack):
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            logs.delete_log_group(logGroupName=name)


def _log_groups(stack: Stack) -> list[str]:
    logs = _client("logs", stack.region)
    prefixes = [
        f"/{stack.prefix}/", f"/aws/lambda/{stack.prefix}-", f"/aws/ecs/containerinsights/{stack.prefix}/",
        f"aws-waf-logs-{stack.prefix}",
    ]
    return [
        group["logGroupName"]
        for prefix in prefixes
        for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
        for group in page["logGroups"]
    ]


def _roles(stack: Stack) -> list[str]:
    return [
        role["Arn"]
        for page in _client("iam", stack.region).get_paginator("list_roles").paginate()
        for role in page["Roles"]
        if role["RoleName"].startswith(f"{stack.prefix}-")
    ]


# The tagging API may list a resource long after it was deleted, so these kinds are checked at their own service: service and kind, as in the ARN, to
# the service's client, the call, its arguments and the list in its answer. Calls that fail for a missing resource need no list.
_LOOK_UPS: dict[tuple[str, str], tuple[str, str, Callable[[str, str], dict], str | None]] = {
    ("elasticloadbalancing", "loadbalancer"): ("elbv2", "describe_load_balancers", lambda arn, _: {"LoadBalancerArns": [arn]}, None),
    ("elasticloadbalancing", "targetgroup"): ("elbv2", "describe_target_groups", lambda arn, _: {"TargetGroupArns": [arn]}, None),
    ("elasticloadbalancing", "listener"): ("elbv2", "describe_listeners", lambda arn, _: {"ListenerArns": [arn]}, None),
    ("elasticloadbalancing", "listener-rule"): ("elbv2", "describe_rules", lambda arn, _: {"RuleArns": [arn]}, None),
    ("servicediscovery", "namespace"): ("servicediscovery", "get_namespace", lambda _, name: {"Id": name}, None),
    ("servicediscovery", "service"): ("servicediscovery", "get_service", lambda _, name: {"Id": name}, None),
    ("route53", "hostedzone"): ("route53", "get_hosted_zone", lambda _, name: {"Id": name}, None),
    ("ec2", "vpc"): ("ec2", "describe_vpcs", lambda _, name: {"VpcIds": [name]}, None),
    ("ec2", "subnet"): ("ec2", "describe_subnets", lambda _, name: {"SubnetIds": [name]}, None),
    ("ec2", "security-group"): ("ec2", "describe_security_groups", lambda _, name: {"GroupIds": [name]}, None),
    ("ec2", "security-group-rule"): (
        "ec2", "describe_security_group_rules", lambda _, name: {"SecurityGroupRuleIds": [name]}, "SecurityGroupRules"
    ),
    ("ec2", "route-table"): ("ec2", "describe_route_tables", lambda _, name: {"RouteTableIds": [name]}, None),
    ("ec2", "internet-gateway"): ("ec2", "describe_internet_gateways", lambda _, name: {"InternetGatewayIds": [name]}, None),
    ("ec2", "elastic-ip"): ("ec2", "describe_addresses", lambda _, name: {"AllocationIds": [name]}, None),
    ("ec2", "network-interface"): ("ec2", "describe_network_interfaces", lambda _, name: {"NetworkInterfaceIds": [name]}, None),
    ("ec2", "vpc-flow-log"): ("ec2", "describe_flow_logs", lambda _, name: {"FlowLogIds": [name]}, "FlowLogs"),
    ("dynamodb", "table"): ("dynamodb", "describe_table", lambda _, name: {"TableName": name}, None),
    ("lambda", "function"): ("lambda", "get_function", lambda _, name: {"FunctionName": name}, None),
    ("lambda", "event-source-mapping"): ("lambda", "get_event_source_mapping", lambda _, name: {"UUID": name}, None),
    ("logs", "log-group"): ("logs", "describe_log_groups", lambda _, name: {"logGroupNamePrefix": name}, "logGroups"),
    ("sns", ""): ("sns", "get_topic_attributes", lambda arn, _: {"TopicArn": arn}, None),
    ("sqs", ""): ("sqs", "get_queue_url", lambda _, name: {"QueueName": name}, None),
    ("s3", ""): ("s3", "head_bucket", lambda _, name: {"Bucket": name}, None),
    ("ecr", "repository"): ("ecr", "describe_repositories", lambda _, name: {"repositoryNames": [name]}, None),
    ("ssm", "parameter"): ("ssm", "get_parameters", lambda _, name: {"Names": [f"/{name}"]}, "Parameters"),
    ("cognito-idp", "userpool"): ("cognito-idp", "describe_user_pool", lambda _, name: {"UserPoolId": name}, None),
    ("events", "rule"): ("events", "describe_rule", lambda _, name: {"Name": name}, None),
    ("cloudwatch", "alarm"): ("cloudwatch", "describe_alarms", lambda _, name: {"AlarmNames": [name]}, "MetricAlarms"),
    ("apigateway", "restapis"): ("apigateway", "get_rest_api", lambda _, name: {"restApiId": name}, None),
    ("apigateway", "apis"): ("apigatewayv2", "get_api", lambda _, name: {"ApiId": name}, None),
    ("apigateway", "vpclinks"): ("apigatewayv2", "get_vpc_link", lambda _, name: {"VpcLinkId": name}, None),
}
_GONE = re.compile(r"NotFound|NoSuch|NonExistent|DoesNotExist|ClientException|WAFNonexistentItem|^404$")


def _still_there(arn: str) -> bool | str:
    """False for a deleted resource that the index of tags still lists; "pending" for one that AWS deletes later."""
    _, _, service, region, _, resource = arn.split(":", 5)
    # Kinds are parted from names by a slash or a colon, or are not named; API Gateway's begin with a slash.
    kind, _, name = resource.lstrip("/").replace(":", "/", 1).partition("/")
    if not name:
        kind, name = "", kind
    try:
        if service == "kms":
            state = _client("kms", region).describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
            return "pending" if state == "PendingDeletion" else True
        if service == "ecs" and kind == "cluster":
            clusters = _client("ecs", region).describe_clusters(clusters=[arn])["clusters"]
            return any(cluster["status"] != "INACTIVE" for cluster in clusters)
        if service == "ecs" and kind == "service":
            services = _client("ecs", region).describe_services(cluster=name.split("/")[0], services=[arn])["services"]
            return any(service["status"] not in ("INACTIVE", "DRAINING") for service in services)
        if service == "ecs" and kind == "task":
            tasks = _client("ecs", region).describe_tasks(cluster=name.split("/")[0], tasks=[arn])["tasks"]
            # A stopped task is described for about an hour.
            return any(task["lastStatus"] != "STOPPED" for task in tasks)
        if service == "ecs" and kind == "task-definition":
            status = _client("ecs", region).describe_task_definition(taskDefinition=arn)["taskDefinition"]["status"]
            # Revisions stay, inactive and free of charge.
            return "pending" if status != "ACTIVE" else True
        if service == "ec2" and kind in ("vpc-endpoint", "natgateway"):
            return _ends_slowly(kind, name, region)
        if service == "wafv2" and name.startswith("webacl/"):
            _, acl, identity = name.split("/")
            _client("wafv2", region).get_web_acl(Name=acl, Scope=kind.upper(), Id=identity)
            return True
        if service == "application-autoscaling":
            targets = _client("application-autoscaling", region).get_paginator("describe_scalable_targets")
            pages = targets.paginate(ServiceNamespace="ecs")
            return any(target.get("ScalableTargetARN") == arn for page in pages for target in page["ScalableTargets"])
        if (service, kind) in _LOOK_UPS:
            client, call, arguments, key = _LOOK_UPS[service, kind]
            answer = getattr(_client(client, region or None), call)(**arguments(arn, _short(service, kind, name)))
            return key is None or bool(answer[key])
    except ClientError as error:
        if _GONE.search(error.response["Error"]["Code"]):
            return False
        raise
    return True


def _short(service: str, kind: str, name: str) -> str:
    """The name as the calls take it: a log group's ARN may end with `:*`, a stage's lies below its API's."""
    if service == "logs":
        return name.removesuffix(":*")
    return name.partition("/")[0] if service == "apigateway" else name


def _ends_slowly(kind: str, name: str, region: str) -> bool:
    ec2 = _client("ec2", region)
    if kind == "vpc-endpoint":
        found = ec2.describe_vpc_endpoints(VpcEndpointIds=[name])["VpcEndpoints"]
        return any(endpoint["State"].lower() not in ("deleted", "deleting") for endpoint in found)
    found = ec2.describe_nat_gateways(NatGatewayIds=[name])["NatGateways"]
    return any(gateway["State"] not in ("deleted", "deleting") for gateway in found)


def _client(service: str, region: str | None):
    return boto3.client(service, region_name=region or "us-east-1")
