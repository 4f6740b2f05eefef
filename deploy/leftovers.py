"""What a destroyed environment may leave behind: what AWS made by itself, and what it deletes later."""

from __future__ import annotations

import contextlib
import time

import boto3
from botocore.exceptions import ClientError
from launcher.progress import Step

from target import Stack

INTERFACE_WAIT_SECONDS = 1200
INDEX_WAIT_SECONDS = 600
INDEX_PAUSE_SECONDS = 15


def find(stack: Stack) -> tuple[list[str], list[str]]:
    """Everything with the environment's tags, or a log group or role with its name: what is left, and what AWS deletes later.

    The index of tags lags behind by minutes, so what it names is looked up where that is cheap. Roles are not in it.
    """
    tagging = _client("resourcegroupstaggingapi", stack.region)
    filters = [{"Key": "Project", "Values": ["tagged-config"]}, {"Key": "Environment", "Values": [stack.name]}]
    left, pending = {*_log_groups(stack), *_roles(stack)}, set()
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

    With `sweep` log groups go too: services made them under names of their own, which no state knows, and what they
    write last makes them once more.
    """
    deadline = time.monotonic() + limit_seconds
    while True:
        if sweep:
            _remove_log_groups(stack)
        left, pending = find(stack)
        if not left or time.monotonic() >= deadline:
            step.detail = f"{len(left)} left" if left else "nothing left"
            return left, pending
        step.activity(f"{len(left)} still listed; the index of tags lags by minutes")
        time.sleep(pause_seconds)


def wait_for_interfaces(stack: Stack, step: Step) -> None:
    """Until no network interface of a function holds the environment's groups."""
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
                    pass  # AWS was quicker, or holds it a little longer
        step.activity(f"{len(found)} network interfaces of functions linger; AWS takes up to 40 minutes")
        time.sleep(15)


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


def _still_there(arn: str) -> bool | str:
    """False for what the index of tags has not forgotten yet; "pending" for what AWS deletes later."""
    _, _, service, region, _, resource = arn.split(":", 5)
    kind, _, name = resource.partition("/")
    try:
        if service == "kms":
            state = _client("kms", region).describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
            return "pending" if state == "PendingDeletion" else True
        if service == "ecs" and kind == "cluster":
            clusters = _client("ecs", region).describe_clusters(clusters=[arn])["clusters"]
            return any(cluster["status"] != "INACTIVE" for cluster in clusters)
        if service == "ecs" and kind == "service":
            _, cluster, _ = resource.split("/")
            services = _client("ecs", region).describe_services(cluster=cluster, services=[arn])["services"]
            return any(service["status"] not in ("INACTIVE", "DRAINING") for service in services)
        if service == "ecs" and kind == "task-definition":
            status = _client("ecs", region).describe_task_definition(taskDefinition=arn)["taskDefinition"]["status"]
            # Revisions stay, inactive and free of charge.
            return "pending" if status != "ACTIVE" else True
        if service == "ec2":
            return _ec2_still_there(kind, name, region)
    except ClientError as error:
        if any(word in error.response["Error"]["Code"] for word in ("NotFound", "NotFoundException", "ClientException")):
            return False
        raise
    return True


def _ec2_still_there(kind: str, name: str, region: str) -> bool:
    ec2 = _client("ec2", region)
    if kind == "vpc-endpoint":
        found = ec2.describe_vpc_endpoints(VpcEndpointIds=[name])["VpcEndpoints"]
        return any(endpoint["State"].lower() not in ("deleted", "deleting") for endpoint in found)
    if kind == "natgateway":
        found = ec2.describe_nat_gateways(NatGatewayIds=[name])["NatGateways"]
        return any(gateway["State"] not in ("deleted", "deleting") for gateway in found)
    if kind == "security-group-rule":
        return bool(ec2.describe_security_group_rules(SecurityGroupRuleIds=[name])["SecurityGroupRules"])
    return True


def _client(service: str, region: str):
    return boto3.client(service, region_name=region)
