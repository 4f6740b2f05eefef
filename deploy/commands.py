"""The commands. Each can be run again after an interruption, and goes on from what it finds."""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request

import boto3
import boto3.exceptions
import botocore.exceptions
from launcher.errors import StackError
from launcher.progress import Progress

import artifacts
import leftovers
from target import BACKEND, Stack, commit

NOTHING = "nothing is deployed as {env}: run `make deploy ENV={env}` first"
DESTROY_ATTEMPTS = 4
AWS_ERRORS = (boto3.exceptions.Boto3Error, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)


def plan(arguments: argparse.Namespace) -> int:
    """What would change. The version that runs is kept, so that only the infrastructure's changes show."""
    _account()
    stack = _stack(arguments)
    tag = stack.outputs().get("image_tag", "planned")
    return stack.plan([f"-var=image_tag={tag}"])


def deploy(arguments: argparse.Namespace) -> int:
    """Repositories, then what goes into them, then everything."""
    account = _account()
    progress = Progress()
    stack = _stack(arguments, progress)
    tag = commit()
    if not arguments.without_build:
        artifacts.preflight()
    _api_log_role(stack)
    progress.line(f"{stack.prefix}: version {tag}, account {account}")
    stack.apply("repositories", ["-target=module.images", f"-var=image_tag={tag}"])
    if not arguments.without_build:
        artifacts.publish(stack, tag, progress)
    return _roll_out(stack, tag, progress)


def rollback(arguments: argparse.Namespace) -> int:
    """An earlier version's images and packages, which are still there, under today's infrastructure."""
    _account()
    progress = Progress()
    stack = _stack(arguments, progress)
    outputs = stack.outputs()
    if not outputs:
        raise StackError(NOTHING.format(env=stack.name))
    tag = arguments.tag or artifacts.before(stack, outputs["image_tag"])
    if not arguments.without_build:
        artifacts.require(stack, outputs, tag)
    progress.line(f"{stack.prefix}: from {outputs['image_tag']} back to {tag}")
    return _roll_out(stack, tag, progress)


def destroy(arguments: argparse.Namespace) -> int:
    """Everything goes, data too. Protection is lifted first, which only this command does."""
    account = _account()
    progress = Progress()
    stack = _stack(arguments, progress)
    print(f"This removes {stack.prefix} from account {account}, with every tenant's configuration and all users.")
    typed = arguments.yes if arguments.yes is not None else input(f"Type {stack.name} to go on: ")
    if typed != stack.name:
        raise StackError(f"{typed!r} is not {stack.name!r}: nothing was removed")
    outputs = stack.outputs()
    tag = [f"-var=image_tag={outputs.get('image_tag', 'planned')}", "-var=deletion_protection=false"]
    if outputs:
        stack.apply("lift protection", tag)
    # The network interfaces of a function that is gone linger for up to 40 minutes, and hold groups and subnets.
    for attempt in range(1, DESTROY_ATTEMPTS + 1):
        try:
            stack.apply("destroy", tag, verb="destroy")
            break
        except StackError:
            if attempt == DESTROY_ATTEMPTS:
                raise
            with progress.step("wait") as step:
                leftovers.wait_for_interfaces(stack, step)
    leftovers.remove_what_aws_made(stack, progress)
    return _verify(stack)


def destroy_verify(arguments: argparse.Namespace) -> int:
    """What is left."""
    _account()
    return _verify(_stack(arguments))


def status(arguments: argparse.Namespace) -> int:
    """The outputs."""
    _account()
    stack = _stack(arguments)
    outputs = stack.outputs()
    if not outputs:
        raise StackError(NOTHING.format(env=stack.name))
    print(json.dumps(outputs, indent=2))
    return 0


def bootstrap_state(arguments: argparse.Namespace) -> int:
    """A versioned, encrypted bucket for the state, with a lock beside it (no table is needed for that)."""
    account = _account()
    session = boto3.session.Session()
    region = session.region_name or "us-east-1"
    bucket = f"tagged-config-state-{account}-{region}"
    s3 = session.client("s3", region_name=region)
    try:
        location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **location)
    except (s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        ),
    )
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    encryption = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [encryption]})
    tls_only = {
        "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls_only]}))
    BACKEND.write_text(
        "# Written by `make bootstrap-state`; not committed. Each environment has a key of its own.\n"
        f'terraform {{\n  backend "s3" {{\n    bucket       = "{bucket}"\n    region       = "{region}"\n'
        "    encrypt      = true\n    use_lockfile = true\n  }\n}\n"
    )
    for name in ("dev", "prod"):
        stack = Stack(name, arguments.var, Progress())
        if stack.state_file().exists():
            stack.push_state(stack.state_file())
            stack.state_file().rename(stack.state_file().with_suffix(".tfstate.moved"))
    print(f"The state lies in s3://{bucket} from now on. To share it, give the others {BACKEND.name}.")
    return 0


def _stack(arguments: argparse.Namespace, progress: Progress | None = None) -> Stack:
    return Stack(arguments.env, arguments.var, progress or Progress())


def _account() -> str:
    try:
        return boto3.client("sts", region_name=boto3.session.Session().region_name or "us-east-1").get_caller_identity()["Account"]
    except botocore.exceptions.NoCredentialsError:
        raise StackError(
            "no AWS credentials: set AWS_PROFILE, or run `aws configure sso` and `aws sso login`; "
            "`make local` needs none"
        ) from None
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        raise StackError(f"the AWS credentials do not work: {error}") from None


def _api_log_role(stack: Stack) -> None:
    """A REST API's access log needs a role of the whole account: better said now than by a failing apply."""
    if (
        stack.variable("api_type", "rest") != "rest"
        or stack.variable("api_access_logs", "true") == "false"
        or stack.variable("manage_account_settings", "false") == "true"
    ):
        return
    if not boto3.client("apigateway", region_name=stack.region).get_account().get("cloudwatchRoleArn"):
        raise StackError(
            "this account has no role that API Gateway logs with, and a REST API with an access log needs one. Either let "
            "Terraform set it for the whole account (VARS='manage_account_settings=true'), or go without the "
            "access log (VARS='api_access_logs=false')"
        )


def _roll_out(stack: Stack, tag: str, progress: Progress) -> int:
    stack.apply("apply", [f"-var=image_tag={tag}"])
    outputs = stack.outputs()
    if _emulated():
        progress.line("tasks, smoke test: left out, the endpoint is an emulator without tasks or edge")
    else:
        with progress.step("tasks") as step:
            _wait_until_steady(outputs, step)
        with progress.step("smoke test") as step:
            step.detail = _smoke_test(outputs["api_url"])
    print(json.dumps(outputs, indent=2))
    pool = outputs["user_pool_id"]
    print(f"""
Next:
  a user     aws cognito-idp admin-create-user --region {outputs["region"]} --user-pool-id {pool} --username you@example.com \\
               --user-attributes Name=email,Value=you@example.com Name=email_verified,Value=true \\
               Name=custom:tenantId,Value=YOUR_TENANT Name=custom:userRole,Value=writer
  dashboard  {outputs["dashboard_url"]}
  go back    make rollback ENV={stack.name}
  remove     make destroy ENV={stack.name}""")
    return 0


def _emulated() -> bool:
    """AWS is never spoken to without TLS."""
    return boto3.client("sts", region_name="us-east-1").meta.endpoint_url.startswith("http://")


def _wait_until_steady(outputs: dict, step, limit_seconds: float = 900) -> None:
    """Until every service runs what was applied, and nothing else. A rollback by the circuit breaker is a failure."""
    ecs = boto3.client("ecs", region_name=outputs["region"])
    deadline = time.monotonic() + limit_seconds
    while True:
        services = ecs.describe_services(cluster=outputs["cluster_name"], services=outputs["service_names"])["services"]
        waiting = []
        for service in services:
            deployments = service.get("deployments", [])
            failed = [d for d in deployments if d.get("rolloutState") == "FAILED"]
            if failed:
                reason = failed[0].get("rolloutStateReason", "")
                raise StackError(f"{service['serviceName']} did not start and was rolled back: {reason} See its log group.")
            if len(deployments) != 1 or deployments[0].get("rolloutState", "COMPLETED") != "COMPLETED":
                waiting.append(service["serviceName"])
        if not waiting:
            step.detail = ", ".join(outputs["service_names"]) + " steady"
            return
        if time.monotonic() > deadline:
            raise StackError(f"not steady after {limit_seconds:.0f} s: {', '.join(waiting)}")
        step.activity(f"waiting for {', '.join(waiting)}")
        time.sleep(5)


def _smoke_test(url: str) -> str:
    """Without a token the API must refuse."""
    last = "no answer"
    for _ in range(30):
        try:
            with urllib.request.urlopen(f"{url}/v1/config?prefix=tenant_config_", timeout=10) as answer:
                raise StackError(f"{url} answers {answer.status} without a token")
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return f"{url} refuses callers without a token"
            last = f"{error.code}"
        except urllib.error.URLError as error:
            last = str(error.reason)
        time.sleep(5)
    raise StackError(f"{url} should answer 401 without a token; last: {last}")


def _verify(stack: Stack) -> int:
    left, pending = leftovers.find(stack)
    for arn in pending:
        print(f"AWS deletes later: {arn}")
    for arn in left:
        print(f"LEFT: {arn}")
    print(f"{stack.prefix}: {len(left)} resources left" if left else f"{stack.prefix}: nothing is left")
    return 1 if left else 0
