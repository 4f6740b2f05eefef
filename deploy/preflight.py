"""The preflight: finds what would stop a deployment half-way, before anything is created. Each check prints one line with what to do.

A check that this identity may not make is a warning that names the action. It never stops a deployment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import shutil
import subprocess
from typing import Any, Callable, Iterator, Mapping, Sequence

import boto3
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from launcher.layout import TERRAFORM

import refusals
import leftovers
from target import Stack

OK, WARN, STOP = "ok", "warn", "stop"
FIRST_MINUTES, NEXT_MINUTES = 40, 15
"""How long a deployment takes: the first one, and one with changes only."""
LEAST_MINUTES = 5
VARIABLES = (
    "tasks", "nat", "availability_zone_count", "api_type", "api_access_logs", "architecture", "table_name",
    "invalidator_reserved_concurrency", "load_test_runner", "secrets", "autoscaling_enabled",
)
"""The variables of the root that the checks read."""
INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "logs", "ssm", "data-servicediscovery")
OPTIONAL_ENDPOINTS = {"secrets": "secretsmanager", "load_test_runner": "cognito-idp"}
"""The endpoints, as in terraform/modules/network/endpoint_statements; those that a variable switches on, by its name."""
SERVICE_ROLES = {
    "ecs.amazonaws.com": "AWSServiceRoleForECS",
    "elasticloadbalancing.amazonaws.com": "AWSServiceRoleForElasticLoadBalancing",
    "ops.apigateway.amazonaws.com": "AWSServiceRoleForAPIGateway",
    "ecs.application-autoscaling.amazonaws.com": "AWSServiceRoleForApplicationAutoScaling_ECSService",
    "wafv2.amazonaws.com": "AWSServiceRoleForWAFV2Logging",
}
LOG_POLICIES = 10
"""Resource policies of CloudWatch Logs in one region; the quota cannot be raised."""
RESERVE = 100
"""The concurrency that Lambda requires to stay unreserved."""
_ZONES_WITHOUT_LINK = re.compile(r"exclude_zone_ids\s*=\s*(\[[^\]]*\])")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it, if anything."""

    status: str
    text: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.status:<5} {self.text}{f': {self.todo}' if self.todo else ''}"


@dataclasses.dataclass(frozen=True)
class Deployment:
    """The deployment that is checked."""

    stack: Stack
    account: str
    identity: str
    region_source: str
    """The setting that names the region."""
    first: bool
    """Whether the state is empty."""
    variables: Mapping[str, Any]
    build: bool

    def client(self, service: str) -> Any:
        """A client with short timeouts."""
        config = Config(retries={"total_max_attempts": 2}, connect_timeout=10, read_timeout=20)
        return boto3.client(service, region_name=self.stack.region, config=config)

    def quota(self, service: str, code: str) -> float:
        """A quota of the account, or AWS's default."""
        quotas = self.client("service-quotas")
        try:
            return quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
        except quotas.exceptions.NoSuchResourceException:
            return quotas.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]


def run(deployment: Deployment, say: Callable[[str], None]) -> bool:
    """Prints what each check found. Returns whether nothing stops a deployment."""
    findings = [finding for check in CHECKS for finding in _guarded(check, deployment)]
    for finding in findings:
        say(str(finding))
    return all(finding.status != STOP for finding in findings)


# The docstring of a check is its title in the output.
def _guarded(check: Callable[[Deployment], Iterator[Finding]], deployment: Deployment) -> Iterator[Finding]:
    try:
        yield from check(deployment)
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        why = refusals.of_aws(error) if not isinstance(error, ResponseParserError) else "an answer that is not understood"
        yield Finding(WARN, f"{check.__doc__.rstrip('.')}: not checked ({why.partition('. What to do: ')[0]})")


def identity(deployment: Deployment) -> Iterator[Finding]:
    """Identity."""
    if deployment.identity.endswith(":root"):
        yield Finding(WARN, f"{deployment.identity} is the account's root user", "deploy with a role (aws sso login)")
    else:
        yield Finding(OK, f"account {deployment.account}, as {deployment.identity}")


def region(deployment: Deployment) -> Iterator[Finding]:
    """Region."""
    yield Finding(OK, f"region {deployment.stack.region} ({deployment.region_source})")


def credentials(deployment: Deployment) -> Iterator[Finding]:
    """Credentials' time."""
    yield from credentials_of_session(first=deployment.first)


def credentials_of_session(*, first: bool) -> Iterator[Finding]:
    """The same check for other commands."""
    minutes = FIRST_MINUTES if first else NEXT_MINUTES
    yield time_left(boto3.session.Session().get_credentials(), minutes, datetime.datetime.now(datetime.timezone.utc))


def time_left(found: Any, minutes: int, now: datetime.datetime) -> Finding:
    """Whether credentials last as long as a deployment is expected to take."""
    expected = f"about {minutes} minutes are expected"
    named = os.environ.get("AWS_CREDENTIAL_EXPIRATION", "")
    if isinstance(found, RefreshableCredentials) and found.method != "env":
        return Finding(OK, f"credentials are renewed by themselves ({found.method}); {expected}")
    if not found.token:
        return Finding(OK, f"credentials do not expire; {expected}")
    end = getattr(found, "_expiry_time", None)
    if end is None and named:
        end = datetime.datetime.fromisoformat(named.replace("Z", "+00:00"))
    if end is None:
        return Finding(WARN, f"temporary credentials that do not say when they expire; {expected}", "make sure that they last as long")
    left = (end - now).total_seconds() / 60
    text = f"credentials expire in {left:.0f} minutes, at {end:%H:%M} UTC; {expected}"
    if left >= minutes:
        return Finding(OK, text)
    again = "sign in again first; a deployment that they end half-way goes on when it is run again"
    return Finding(STOP if left < LEAST_MINUTES else WARN, text, again)


def docker(deployment: Deployment) -> Iterator[Finding]:
    """Docker."""
    if not deployment.build:
        return
    if shutil.which("docker") is None:
        yield Finding(STOP, "docker is not installed", "install it: images are built with it (`make plan` and `make local` do without)")
        return
    if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode != 0:
        yield Finding(STOP, "docker buildx is not installed", "install it: it builds for other processors (Debian: docker-buildx-plugin)")
        return
    daemon = subprocess.run(["docker", "info"], capture_output=True, text=True)
    if daemon.returncode != 0:
        yield Finding(STOP, f"the Docker daemon does not answer ({' '.join(daemon.stderr.split())[-200:]})", "start it")
        return
    yield Finding(OK, f"docker builds for {deployment.variables['architecture']}: cross compiled, so no emulation is needed")


def fargate(deployment: Deployment) -> Iterator[Finding]:
    """Fargate's quota of vCPUs (L-3032A538)."""
    tasks = deployment.variables["tasks"].values()
    # A rollout starts new tasks beside all old ones.
    least = 2 * sum(task["min"] * task["cpu"] for task in tasks) / 1024
    most = 2 * sum(task["max"] * task["cpu"] for task in tasks) / 1024
    quota = deployment.quota("fargate", "L-3032A538")
    text = f"Fargate: {quota:.0f} vCPUs in the account, {least:g} during a rollout, {most:g} when scaled out"
    remedy = f"have the quota raised to {most:.0f} or more: aws service-quotas request-service-quota-increase --service-code fargate " \
        f"--quota-code L-3032A538 --desired-value {most:.0f} --region {deployment.stack.region}"
    yield Finding(STOP if quota < least else WARN if quota < most else OK, text, "" if quota >= most else remedy)


def vpcs(deployment: Deployment) -> Iterator[Finding]:
    """VPCs (L-F678F1CE)."""
    if not deployment.first:
        return
    used = len(deployment.client("ec2").describe_vpcs()["Vpcs"])
    yield _room("VPCs", used, 1, deployment.quota("vpc", "L-F678F1CE"), "L-F678F1CE")


def endpoints(deployment: Deployment) -> Iterator[Finding]:
    """Interface endpoints in a VPC (L-29B6F2EB)."""
    yield _room("interface endpoints", 0, len(_endpoints(deployment)), deployment.quota("vpc", "L-29B6F2EB"), "L-29B6F2EB")


def gateways(deployment: Deployment) -> Iterator[Finding]:
    """Gateway endpoints (L-1B52E74A)."""
    if not deployment.first:
        return
    filters = [{"Name": "vpc-endpoint-type", "Values": ["Gateway"]}]
    used = len(deployment.client("ec2").describe_vpc_endpoints(Filters=filters)["VpcEndpoints"])
    yield _room("gateway endpoints", used, 2, deployment.quota("vpc", "L-1B52E74A"), "L-1B52E74A")


def addresses(deployment: Deployment) -> Iterator[Finding]:
    """Elastic IP addresses (L-0263D0A3)."""
    zones = deployment.variables["availability_zone_count"]
    wanted = {"none": 0, "single": 1, "per_zone": zones}[deployment.variables["nat"]]
    if not wanted or not deployment.first:
        return
    used = len(deployment.client("ec2").describe_addresses()["Addresses"])
    yield _room("Elastic IP addresses", used, wanted, deployment.quota("ec2", "L-0263D0A3"), "L-0263D0A3")


def _room(what: str, used: int, wanted: int, quota: float, code: str) -> Finding:
    enough = used + wanted <= quota
    text = f"{what}: {used} of {quota:.0f} used, {wanted} more wanted"
    return Finding(OK if enough else STOP, text, "" if enough else f"remove some, or have quota {code} raised (Service Quotas)")


def functions(deployment: Deployment) -> Iterator[Finding]:
    """Lambda's concurrency."""
    limits = deployment.client("lambda").get_account_settings()["AccountLimit"]
    total, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    reserved = deployment.variables["invalidator_reserved_concurrency"]
    text = f"Lambda: {total} concurrent invocations in the account, {unreserved} unreserved"
    if deployment.first and reserved >= 0 and unreserved - reserved < RESERVE:
        yield Finding(STOP, text, f"AWS wants {RESERVE} left: VARS='invalidator_reserved_concurrency=-1', or have the quota raised")
    elif total < RESERVE:
        yield Finding(WARN, text, "other functions of the account can hold up the invalidator: have the quota raised (lambda L-B99A9384)")
    else:
        yield Finding(OK, text)


def log_policies(deployment: Deployment) -> Iterator[Finding]:
    """Resource policies of CloudWatch Logs."""
    if not deployment.first:
        return
    pages = deployment.client("logs").get_paginator("describe_resource_policies").paginate()
    used = sum(len(page["resourcePolicies"]) for page in pages)
    enough = used < LOG_POLICIES
    yield Finding(
        OK if enough else STOP, f"CloudWatch Logs: {used} of {LOG_POLICIES} resource policies used, 1 more wanted",
        "" if enough else "merge or remove some (aws logs describe-resource-policies); this quota cannot be raised",
    )


def service_roles(deployment: Deployment) -> Iterator[Finding]:
    """Service-linked roles."""
    iam = deployment.client("iam")
    missing = []
    for service, role in SERVICE_ROLES.items():
        if service.startswith("ecs.application-autoscaling") and not deployment.variables["autoscaling_enabled"]:
            continue
        try:
            iam.get_role(RoleName=role)
        except iam.exceptions.NoSuchEntityException:
            missing.append(service)
    if not missing:
        yield Finding(OK, "service-linked roles are there")
        return
    yield Finding(
        WARN, f"no service-linked role yet for {', '.join(missing)}",
        "AWS makes them by itself where this identity has iam:CreateServiceLinkedRole; else have them made (aws iam "
        "create-service-linked-role --aws-service-name NAME)",
    )


def zones(deployment: Deployment) -> Iterator[Finding]:
    """Availability zones."""
    ec2, count = deployment.client("ec2"), deployment.variables["availability_zone_count"]
    filters = [{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}, {"Name": "state", "Values": ["available"]}]
    found = ec2.describe_availability_zones(Filters=filters)["AvailabilityZones"]
    excluded = zones_without_link((TERRAFORM / "aws" / "main.tf").read_text())
    usable = sorted(zone["ZoneName"] for zone in found if zone["ZoneId"] not in excluded)
    if len(usable) < count:
        yield Finding(STOP, f"only {len(usable)} zones that a VPC link can be in", "lower availability_zone_count, or take another region")
        return
    chosen = usable[:count]
    wanted = {f"com.amazonaws.{deployment.stack.region}.{name}": name for name in _endpoints(deployment)}
    there = {}
    for page in ec2.get_paginator("describe_vpc_endpoint_services").paginate(
        Filters=[{"Name": "service-name", "Values": list(wanted)}]
    ):
        there |= {detail["ServiceName"]: detail for detail in page["ServiceDetails"]}
    wrong = False
    for service, name in wanted.items():
        detail = there.get(service)
        lacking = [zone for zone in chosen if detail and zone not in detail["AvailabilityZones"]]
        if detail is None:
            problem = f"the region has no endpoint for {name}"
        elif lacking:
            problem = f"the endpoint for {name} cannot be in {', '.join(lacking)}"
        elif not detail.get("VpcEndpointPolicySupported", True):
            problem = f"the endpoint for {name} takes no policy"
        else:
            continue
        wrong = True
        yield Finding(STOP, problem, "take another region, or fewer zones (availability_zone_count)")
    if not wrong:
        yield Finding(OK, f"VPC link and {len(wanted)} endpoints can be in {', '.join(chosen)}")


def zones_without_link(text: str) -> list[str]:
    """The ids of the zones that the root leaves out."""
    return json.loads(_ZONES_WITHOUT_LINK.search(text)[1])


def api_log_role(deployment: Deployment) -> Iterator[Finding]:
    """API Gateway's log role."""
    if deployment.variables["api_type"] != "rest" or not deployment.variables["api_access_logs"]:
        return
    arn = deployment.client("apigateway").get_account().get("cloudwatchRoleArn")
    if arn and _role_exists(deployment, arn):
        yield Finding(OK, f"API Gateway logs with {arn}")
        return
    problem = f"this account names a role to log with that is no more ({arn})" if arn else "this account has no role that API Gateway logs with"
    yield Finding(
        STOP, problem,
        "`make account-settings` sets one for the whole account, in this region; or go without the access log (VARS='api_access_logs=false')",
    )


def _role_exists(deployment: Deployment, arn: str) -> bool:
    """Also when this identity may not read it: then the apply reports it."""
    iam = deployment.client("iam")
    try:
        iam.get_role(RoleName=arn.rsplit("/", 1)[-1])
    except iam.exceptions.NoSuchEntityException:
        return False
    except ClientError as error:
        if "AccessDenied" not in error.response["Error"]["Code"]:
            raise
    return True


def names(deployment: Deployment) -> Iterator[Finding]:
    """Names that exist already."""
    if not deployment.first:
        return
    stack = deployment.stack
    taken = [*leftovers.named(stack), *_tables(deployment)]
    if taken:
        yield Finding(
            STOP, f"the state is empty, but these are there: {', '.join(sorted(taken))}",
            "of a deployment whose state is elsewhere (another checkout, a bucket)? Bring that state. Else remove them: `make "
            f"destroy-verify ENV={stack.name}` lists what is left",
        )
    else:
        yield Finding(OK, f"no name is taken ({stack.prefix}-*, table {deployment.variables['table_name']})")


def _tables(deployment: Deployment) -> Iterator[str]:
    dynamodb = deployment.client("dynamodb")
    for suffix in ("", "Journal", "History"):
        name = f"{deployment.variables['table_name']}{suffix}"
        with contextlib.suppress(dynamodb.exceptions.ResourceNotFoundException):
            dynamodb.describe_table(TableName=name)
            yield f"table {name}"


def _endpoints(deployment: Deployment) -> Sequence[str]:
    return (*INTERFACE_ENDPOINTS, *(name for variable, name in OPTIONAL_ENDPOINTS.items() if deployment.variables[variable]))


CHECKS = (
    identity, region, credentials, docker, fargate, vpcs, endpoints, gateways, addresses, functions, log_policies, service_roles, zones,
    api_log_role, names,
)
