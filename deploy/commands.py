"""The commands of the deployment tool. Each can be run again after an interruption and continues from the state that it finds."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import signal
import sys
from pathlib import Path

import boto3
import boto3.exceptions
import botocore.exceptions
from launcher import running
from launcher.errors import StackError
from launcher.layout import Layout
from launcher.progress import Progress

import artifacts
import discovery
import flush as flushing
import invalidator
import leftovers
import memory
import preflight as preflights
import protection
import redrive as redriving
import refusals
import rollout
import sign_in
import smoke
import throwaway
from target import BACKEND, AccountSettings, Stack, commit, folder_of

STAYS = (
    "Stays by itself, free of charge: DynamoDB's system backups of tables with point-in-time recovery, for 35 days. Settings of the "
    "whole account stay, too (`make account-settings`), and a bucket of `make bootstrap-state`."
)
NOTHING = "nothing is deployed as {env}: run `make deploy ENV={env}` first"
DEFAULT_REGION = "us-east-1"
"""The default region of the root."""
DESTROY_ATTEMPTS = 4
AWS_ERRORS = (boto3.exceptions.Boto3Error, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)


def plan(arguments: argparse.Namespace) -> int:
    """Shows what would change. Keeps the running version, so that only the infrastructure's changes show."""
    stack, _ = _open(arguments, Progress())
    tag = stack.outputs().get("image_tag", "planned")
    return stack.plan([f"-var=image_tag={tag}"])


def preflight(arguments: argparse.Namespace) -> int:
    """Shows what would stop a deployment, before anything is created."""
    progress = Progress()
    stack, account = _open(arguments, progress)
    return 0 if _checked(stack, account, build=not arguments.without_build) else 1


def deploy(arguments: argparse.Namespace) -> int:
    """Deploys: the repositories, then images and packages, then everything."""
    progress = Progress()
    stack, account = _open(arguments, progress)
    tag = commit()
    if not _checked(stack, account, build=not arguments.without_build):
        raise StackError("nothing was made: see the lines that begin with `stop`")
    progress.line(f"{stack.prefix}: version {tag}, account {account}, region {stack.region}")
    # Remembered before anything is created, so that a killed run can be continued, and its resources destroyed.
    stack.apply(
        "repositories", ["-target=module.images", f"-var=image_tag={tag}"], accepted=lambda: _remember(stack, account)
    )
    if not arguments.without_build:
        artifacts.publish(stack, tag, progress)
    return _roll_out(stack, account, tag, progress)


def rollback(arguments: argparse.Namespace) -> int:
    """Runs an earlier version's images and packages, which still exist, under today's infrastructure."""
    progress = Progress()
    stack, account = _open(arguments, progress)
    outputs = stack.outputs()
    if "image_tag" not in outputs:
        raise StackError(NOTHING.format(env=stack.name))
    running = outputs["image_tag"]
    tag = arguments.tag or _version_before(stack, running, progress)
    if not arguments.without_build:
        artifacts.require(stack, outputs, tag)
    _say_time_left(progress)
    progress.line(f"{stack.prefix}: from {running} back to {tag}, account {account}, region {stack.region}")
    _remember(stack, account)
    return _roll_out(stack, account, tag, progress)


def destroy(arguments: argparse.Namespace) -> int:
    """Removes everything, data too. Lifts protection first, which only this command does."""
    progress = Progress()
    stack, account = _open(arguments, progress, even_destroyed=True)
    print(
        f"This removes {stack.prefix} from account {account}, region {stack.region}, with every tenant's configuration (table, and "
        f"parameters under {stack.values('parameter_root')['parameter_root']}) and all users."
    )
    _say_time_left(progress)
    typed = arguments.yes if arguments.yes is not None else input(f"Type {stack.name} to go on: ")
    if typed != stack.name:
        raise StackError(f"{typed!r} is not {stack.name!r}: nothing was removed")
    options = [f"-var=image_tag={stack.outputs().get('image_tag', 'planned')}", "-var=deletion_protection=false"]
    _lift_protection(stack, options, progress)
    # The network interfaces of a function that is gone linger for up to 40 minutes, and hold groups and subnets.
    for attempt in range(1, DESTROY_ATTEMPTS + 1):
        try:
            stack.apply("destroy", options, verb="destroy")
            break
        except StackError as error:
            if attempt == DESTROY_ATTEMPTS or not refusals.may_pass(str(error)):
                raise
            with progress.step("wait") as step:
                leftovers.wait_for_interfaces(stack, step)
    _remember(stack, account, destroyed=True)
    with progress.step("leftovers") as step:
        left, pending = leftovers.settle(stack, step, sweep=True)
    print(STAYS)
    return _verdict(stack, left, pending)


def destroy_verify(arguments: argparse.Namespace) -> int:
    """Lists what is left."""
    progress = Progress()
    stack, _ = _open(arguments, progress, even_destroyed=True)
    # Waiting removes nothing of what was not destroyed.
    limit = 0 if stack.resources() else leftovers.INDEX_WAIT_SECONDS
    with progress.step("leftovers") as step:
        left, pending = leftovers.settle(stack, step, sweep=False, limit_seconds=limit)
    return _verdict(stack, left, pending)


def status(arguments: argparse.Namespace) -> int:
    """Shows the outputs."""
    stack, _ = _open(arguments, Progress())
    outputs = stack.outputs()
    if not outputs:
        raise StackError(NOTHING.format(env=stack.name))
    print(json.dumps(outputs, indent=2))
    return 0


def outputs(arguments: argparse.Namespace) -> int:
    """The outputs for programs: Terraform's own JSON alone. They are in the state, so this calls no AWS service."""
    stack = Stack(arguments.env, {}, Progress(sys.stderr))
    text = stack.raw_outputs()
    if not json.loads(text):
        raise StackError(NOTHING.format(env=stack.name))
    print(text, end="")
    return 0


def token(arguments: argparse.Namespace) -> int:
    """Prints an ID token of a user, as an app would get it: by SRP, with a second factor where there is one."""
    stack, _ = _open(arguments, Progress(sys.stderr))
    outputs = stack.outputs()
    if "user_pool_id" not in outputs:
        raise StackError(NOTHING.format(env=stack.name))
    if not arguments.user:
        raise StackError("say who: make token EMAIL=you@example.com")
    cognito = boto3.client("cognito-idp", region_name=outputs["region"])

    def new_authenticator(secret: str) -> str:
        print(f"The pool wants a second factor. Add this key to an authenticator app and keep it: {secret}", file=sys.stderr)
        return getpass.getpass("Its code: ")

    print(sign_in.id_token(
        cognito, outputs["user_pool_id"], outputs["client_id"], arguments.user, getpass.getpass(f"Password of {arguments.user}: "),
        new_authenticator=new_authenticator,
        code=lambda: getpass.getpass("Code of the authenticator app: "),
        new_password=lambda: getpass.getpass("That was a temporary password. A new one: "),
    ))
    return 0


def account_settings(arguments: argparse.Namespace) -> int:
    """Applies what all REST APIs of the account share in a region, such as the role that they log with."""
    account, _ = _identity()
    region = _session_region() or DEFAULT_REGION
    remembered = memory.recall(folder_of(f"{account}-{region}"))
    variables = memory.merge(remembered.variables if remembered else {}, arguments.var)
    if variables.get("region", region) != region:
        raise StackError(f"VARS say the region {variables['region']}, and AWS_REGION or the profile {region}: make them the same")
    progress = Progress()
    progress.line(f"settings of account {account}, region {region}")
    stack = AccountSettings(account, region, variables, progress)
    resources = stack.resources()
    if arguments.remove:
        _refuse_while_logging(region)
        stack.apply("account settings", [], verb="destroy")
        return 0
    role = boto3.client("apigateway", region_name=region).get_account().get("cloudwatchRoleArn")
    ours = {instance["attributes"].get("arn") for r in resources if r["type"] == "aws_iam_role" for instance in r["instances"]}
    if role and role not in ours and _role_exists(role):
        progress.line(f"API Gateway logs with {role} already, which another deployment has set: nothing was changed")
        return 0
    stack.apply("account settings", [], accepted=lambda: _remember(stack, account))
    return 0


def bootstrap_state(arguments: argparse.Namespace) -> int:
    """Creates a versioned, encrypted bucket for the state, which Terraform also locks (without a table)."""
    account, _ = _identity()
    region = _session_region() or DEFAULT_REGION
    print(f"account {account}, region {region}")
    session = boto3.session.Session()
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
    text = (
        "# Written by `make bootstrap-state`; not committed. Each environment has a key of its own.\n"
        f'terraform {{\n  backend "s3" {{\n    bucket       = "{bucket}"\n    region       = "{region}"\n'
        "    encrypt      = true\n    use_lockfile = true\n  }\n}\n"
    )
    stacks = [Stack("dev", {}, Progress()), Stack("prod", {}, Progress()), AccountSettings(account, region, {}, Progress())]
    for stack in stacks:
        stack.backend.write_text(text)
        if stack.state_file().exists():
            stack.push_state(stack.state_file())
            stack.state_file().rename(stack.state_file().with_suffix(".tfstate.moved"))
    print(f"The state lies in s3://{bucket} from now on. To share it, give the others {BACKEND} of terraform/aws and terraform/account.")
    return 0


def redrive(arguments: argparse.Namespace) -> int:
    """Replays the dead letters of the invalidator."""
    # After SIGTERM it still makes the received messages visible again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = redriving.Options(arguments.dry_run, arguments.discard_lost, arguments.max_messages)
    return redriving.run(_invalidator(arguments), options)


def flush(arguments: argparse.Namespace) -> int:
    """Empties every task's cache."""
    return flushing.run(_invalidator(arguments))


def _invalidator(arguments: argparse.Namespace) -> invalidator.Invalidator:
    if arguments.env == "local":
        if arguments.var:
            raise StackError("VARS are for AWS: the local stack has none")
        return invalidator.local(running.require_ready(Layout(Path(arguments.state_dir).resolve())))
    stack, _ = _open(arguments, Progress())
    outputs = stack.outputs()
    if not outputs:
        raise StackError(NOTHING.format(env=stack.name))
    return invalidator.deployed(stack.name, stack.prefix, outputs)


def _open(
    arguments: argparse.Namespace, progress: Progress, *, even_destroyed: bool = False
) -> tuple[Stack, str]:
    """The environment with the variables that it was deployed with and those given now, and the account it is in."""
    account, _ = _identity()
    remembered = memory.recall(folder_of(arguments.env))
    kept = remembered.variables if remembered and (even_destroyed or not remembered.destroyed) else {}
    stack = Stack(arguments.env, _in_region(memory.merge(kept, arguments.var)), progress)
    used = [f"{name}={value}" for name, value in kept.items() if stack.variables.get(name) == value]
    if used:
        progress.line(f"as deployed before: VARS='{' '.join(used)}' (give others to change them, NAME= for a default)")
    resources = stack.resources()
    accounts, regions = protection.places(resources)
    if even_destroyed and remembered:
        accounts.add(remembered.account)
    _refuse_elsewhere(stack, account, accounts, regions)
    if resources and (remembered is None or remembered.destroyed):
        progress.line(
            f"warning: {stack.folder} does not say which VARS {stack.name} was deployed with (from another checkout?): "
            "give the same ones"
        )
    return stack, account


def _in_region(variables: dict[str, str]) -> dict[str, str]:
    """With the SDKs' own region, where there is one: two that differ are refused, since it is unknown which is meant."""
    session = _session_region()
    if not session:
        return variables
    if variables.get("region", session) != session:
        raise StackError(
            f"the region is {variables['region']} (given, or as deployed before), and AWS_REGION or the profile says {session}: set "
            f"AWS_REGION={variables['region']}, or give VARS='region={session}' where nothing is deployed yet"
        )
    return variables | {"region": session}


def _session_region() -> str | None:
    """The region as newer SDKs and Terraform read it. boto3 does not read AWS_REGION."""
    return os.environ.get("AWS_REGION") or boto3.session.Session().region_name


def _refuse_elsewhere(stack: Stack, account: str, accounts: set[str], regions: set[str]) -> None:
    """Refuses another account or region: Terraform would find nothing there, and create everything again."""
    if accounts - {account}:
        raise StackError(
            f"{stack.name} is deployed in account {', '.join(sorted(accounts))}, and these credentials are of account "
            f"{account}: use those of the former (AWS_PROFILE)"
        )
    if regions - {stack.region}:
        there = ", ".join(sorted(regions))
        raise StackError(
            f"{stack.name} is deployed in {there}, and this would be {stack.region}: set AWS_REGION={there}, or "
            "destroy it there first"
        )


def _checked(stack: Stack, account: str, *, build: bool) -> bool:
    """Prints what each check of the preflight found. Returns whether a deployment may begin."""
    deployment = preflights.Deployment(
        stack, account, _identity()[1], "AWS_REGION or the profile" if _session_region() else "the default, as nothing names another",
        first=not stack.resources(), variables=stack.values(*preflights.VARIABLES, valid=True), build=build,
    )
    return preflights.run(deployment, print)


def _say_time_left(progress: Progress) -> None:
    for finding in preflights.credentials_of_session(first=False):
        progress.line(str(finding))


def _remember(stack: Stack, account: str, *, ran: str | None = None, destroyed: bool = False) -> None:
    """With the versions that ran before, as far as they are of the same deployment."""
    known = memory.recall(stack.folder)
    versions = known.ran if known and known.account == account and not known.destroyed else ()
    kept = memory.Memory(account, stack.variables, destroyed, () if destroyed else versions)
    memory.remember(stack.folder, kept.with_version(ran) if ran else kept)


def _version_before(stack: Stack, running: str, progress: Progress) -> str:
    known = memory.recall(stack.folder)
    tag = known.before(running) if known and not known.destroyed else None
    if tag is None:
        tag = artifacts.before(stack, running)
        progress.line(f"warning: nothing here says which version ran before {running}: {tag} was pushed last before it (or give TAG=...)")
    return tag


def _lift_protection(stack: Stack, options: list[str], progress: Progress) -> None:
    """Lifts protection of existing, protected resources. Creates and changes nothing else before the destroy."""
    addresses = protection.protected(stack.resources())
    if not addresses:
        return
    try:
        stack.apply("lift protection", [*(f"-target={address}" for address in addresses), *options])
    except StackError as error:
        progress.line(
            f"warning: protection was not lifted ({error}; {stack.log}); going on: AWS refuses to delete what is still "
            f"protected of {', '.join(addresses)}"
        )


def _identity() -> tuple[str, str]:
    """The account, and the signed-in identity."""
    try:
        answer = boto3.client("sts", region_name=_session_region() or DEFAULT_REGION).get_caller_identity()
    except botocore.exceptions.NoCredentialsError:
        raise StackError(
            "no AWS credentials: set AWS_PROFILE, or run `aws configure sso` and `aws sso login`; "
            "`make local` needs none"
        ) from None
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        raise StackError(f"the AWS credentials do not work: {refusals.of_aws(error)}") from None
    return answer["Account"], answer["Arn"]


def _role_exists(arn: str) -> bool:
    iam = boto3.client("iam", region_name=_session_region() or DEFAULT_REGION)
    try:
        iam.get_role(RoleName=arn.rsplit("/", 1)[-1])
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def _refuse_while_logging(region: str) -> None:
    """Refuses if a REST API still logs: without the role its logging stops silently, and its stage cannot change."""
    gateway = boto3.client("apigateway", region_name=region)
    logging = [
        f"{api['name']}/{stage['stageName']}"
        for page in gateway.get_paginator("get_rest_apis").paginate() for api in page["items"]
        for stage in gateway.get_stages(restApiId=api["id"])["item"]
        if stage.get("accessLogSettings") or any(
            settings.get("loggingLevel", "OFF") != "OFF" for settings in stage.get("methodSettings", {}).values()
        )
    ]
    if logging:
        raise StackError(f"these stages log with the role: {', '.join(sorted(logging))}. Nothing was removed")


def _roll_out(stack: Stack, account: str, tag: str, progress: Progress) -> int:
    stack.apply("apply", [f"-var=image_tag={tag}"])
    outputs = stack.outputs()
    with progress.step("discovery") as step:
        cloud_map = boto3.client("servicediscovery", region_name=outputs["region"])
        step.detail = discovery.shorten_negative_ttl(cloud_map, outputs["cloud_map_namespace"])
    if _emulated():
        progress.line("tasks, smoke test: left out, the endpoint is an emulator without tasks or edge")
    else:
        ecs = boto3.client("ecs", region_name=outputs["region"])
        with progress.step("tasks") as step:
            rollout.wait(ecs, outputs, step)
        with progress.step("smoke test") as step:
            step.detail = smoke.test(outputs["api_url"], step)
        cognito = boto3.client("cognito-idp", region_name=outputs["region"])
        with progress.step("signed in") as step, throwaway.user(cognito, outputs, progress.line) as id_token:
            caller = smoke.Caller(outputs["api_url"], id_token)
            step.detail = smoke.exercise(caller, lambda: smoke.running_tasks(ecs, outputs), step)
    _remember(stack, account, ran=tag)
    _say_unconfirmed(stack, account, progress)
    print(json.dumps(outputs, indent=2))
    pool = outputs["user_pool_id"]
    print(f"""
Next:
  a user     aws cognito-idp admin-create-user --region {outputs["region"]} --user-pool-id {pool} --username you@example.com \\
               --user-attributes Name=email,Value=you@example.com Name=email_verified,Value=true \\
               Name=custom:tenantId,Value=YOUR_TENANT Name=custom:userRole,Value=writer
             (Cognito mails a temporary password, good for a day)
  a token    TOKEN=$(make -s token ENV={stack.name} EMAIL=you@example.com)
  a value    curl -H "Authorization: Bearer $TOKEN" -X PUT -d true {outputs["api_url"]}/v1/config/tenant_config_featureFlagX
             curl -H "Authorization: Bearer $TOKEN" {outputs["api_url"]}/v1/config/tenant_config_featureFlagX
  dashboard  {outputs["dashboard_url"]}
  go back    make rollback ENV={stack.name}
  remove     make destroy ENV={stack.name}""")
    return 0


def _say_unconfirmed(stack: Stack, account: str, progress: Progress) -> None:
    """Addresses that have not confirmed yet receive no alarms."""
    sns = boto3.client("sns", region_name=stack.region)
    topic = f"arn:{sns.meta.partition}:sns:{stack.region}:{account}:{stack.prefix}-alerts"
    try:
        pages = list(sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic))
    except botocore.exceptions.ClientError as error:
        progress.line(f"warning: cannot check who receives alarms: {refusals.of_aws(error)}")
        return
    found = [subscription for page in pages for subscription in page["Subscriptions"]]
    waiting = sorted(one["Endpoint"] for one in found if one["SubscriptionArn"] == "PendingConfirmation")
    if waiting:
        progress.line(f"warning: no alarms until these addresses confirm AWS's e-mail: {', '.join(waiting)}")
    if not found and not stack.values("alert_topic_arns")["alert_topic_arns"]:
        progress.line(f"""warning: no subscriber receives alarms: VARS='alert_emails=["you@example.com"]', or subscribe to {topic}""")


def _emulated() -> bool:
    """Whether the endpoint is an emulator: AWS is never called without TLS."""
    return boto3.client("sts", region_name="us-east-1").meta.endpoint_url.startswith("http://")


def _verdict(stack: Stack, left: list[str], pending: list[str]) -> int:
    for arn in pending:
        print(f"AWS deletes later: {arn}")
    for arn in left:
        print(f"LEFT: {arn}")
    print(f"{stack.prefix}: {len(left)} resources left" if left else f"{stack.prefix}: nothing is left")
    return 1 if left else 0
