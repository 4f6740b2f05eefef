"""Tests the deployer's role on an emulator: the account's owner creates it from terraform/deployer, deployments run as it, and
what it must not do is refused.

Used by aws_checks.py. The emulator evaluates the role's policies (moto_iam.py), so that a deployment whose resources need
an action that the role has not fails there.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Callable, Mapping, Sequence

import boto3
from botocore.exceptions import ClientError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

from launcher import terraform, terraform_binary  # noqa: E402
from launcher.progress import Progress  # noqa: E402

UNUSED: dict[str, tuple[str, ...]] = {
    "changes in place that no run makes": (
        "*:Update*", "*:Modify*", "*:Untag*", "*:RemoveTags*", "*:DeleteTags", "apigateway:PATCH", "cognito-idp:AddCustomAttributes",
        "ec2:Replace*", "ecr:PutImage*ability", "ecr:PutImageScanningConfiguration", "elasticloadbalancing:Set*",
        "iam:PutRolePermissionsBoundary", "kms:PutKeyPolicy", "lambda:*FunctionConcurrency", "logs:*ssociateKmsKey",
        "logs:DeleteRetentionPolicy",
    ),
    "AWS checks it on behalf of the caller, and no emulator does": (
        "dynamodb:DescribeStream", "dynamodb:Get*", "kms:GenerateDataKey*", "kms:ReEncrypt*", "logs:*LogDeliver*", "route53:*",
        "cognito-idp:DeleteUserPoolClient",
    ),
    "moto has no scaling and no saved queries": ("application-autoscaling:*", "logs:*QueryDefinition*"),
    "moto has no registry: images are pushed by Docker": ("ecr:Batch*", "ecr:*Layer*"),
    "an own domain of the user pool is an option": ("cognito-idp:*UserPoolDomain",),
    "the smoke test and the rollout are tested on fakes": (
        "cognito-idp:Admin*", "cognito-idp:ListUsers", "ecs:DescribeTasks", "ecs:ListTasks", "elasticloadbalancing:DescribeTargetHealth",
    ),
    "no letter is dead there": ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage"),
    "the local stack's namespace is one without DNS": ("servicediscovery:CreateHttpNamespace",),
    "left over only on AWS, and removed by destroy": (
        "ec2:DeleteNetworkInterface", "s3:AbortMultipartUpload", "servicediscovery:DeregisterInstance", "servicediscovery:ListServices",
    ),
    "read by Terraform's provider, or by preflight, only where AWS says more than moto": (
        "*:ListTagsForResource", "ec2:DescribeAccountAttributes", "ec2:DescribeRegions", "lambda:GetFunctionConfiguration",
        "lambda:ListEventSourceMappings", "s3:GetObjectVersion", "servicequotas:ListServiceQuotas",
    ),
}
"""Patterns of actions of the deployer's role that no run on moto uses, by the reason why it has them."""
SESSION_SECONDS = 3600
BOUNDARY = "arn:aws:iam::aws:policy/AdministratorAccess"
"""It bounds nothing: that every role has it is what counts."""


def session(root: Path, env: str, environment: Mapping[str, str], variables: Sequence[str] = ()) -> dict[str, str]:
    """Applies terraform/deployer as the account's owner, and returns the environment variables of a session of its role."""
    owner = _client("sts", environment).get_caller_identity()
    principals = json.dumps([f"arn:aws:iam::{owner['Account']}:root"])
    data = root / f".terraform-{env}"
    data.mkdir()
    owners = dict(environment) | {"TF_DATA_DIR": str(data), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    if not Path(owners.get("TF_CLI_CONFIG_FILE", "/")).is_file():
        owners.pop("TF_CLI_CONFIG_FILE", None)
    binary = terraform_binary.find_or_fetch()
    with Progress(io.StringIO()).step("init") as step:
        terraform.initialise(binary, root, data, step, data / "init.log", variables=owners)
    result = subprocess.run(
        [
            str(binary), "apply", "-input=false", "-auto-approve", "-no-color", f"-var-file={env}.tfvars", f"-state={env}.tfstate",
            f"-var=principal_arns={principals}", "-var=require_mfa=false",
            *(f"-var={variable}" for variable in variables),
        ],
        cwd=root, env=owners, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )
    if result.returncode != 0:
        raise RuntimeError(f"terraform/deployer cannot be applied:\n{result.stdout[-4000:]}")
    state = json.loads((root / f"{env}.tfstate").read_text())
    keys = _client("sts", environment).assume_role(
        RoleArn=state["outputs"]["role_arn"]["value"], RoleSessionName="deployment", DurationSeconds=SESSION_SECONDS
    )["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"], "AWS_SESSION_TOKEN": keys["SessionToken"],
    }


def refused(env: str, environment: Mapping[str, str]) -> dict[str, bool]:
    """What the role must not do, tried with its session: whether each was refused."""
    other = {"dev": "prod", "prod": "dev"}[env]
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    iam, ec2, ssm = (_client(service, environment) for service in ("iam", "ec2", "ssm"))
    dynamodb, s3, secrets = (_client(service, environment) for service in ("dynamodb", "s3", "secretsmanager"))
    account, region = _client("sts", environment).get_caller_identity()["Account"], environment["AWS_REGION"]
    blob = {"Bucket": f"tagged-config-{env}-blobs-{account}-{region}", "Key": "tenants/a/model"}
    administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
    own = f"tagged-config-deployer-{env}"
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    project = [{"Key": "Project", "Value": "tagged-config"}, {"Key": "Environment", "Value": env}]
    tries: dict[str, Callable[[], object]] = {
        "a user": lambda: iam.create_user(UserName="mallory"),
        "an access key": lambda: iam.create_access_key(UserName="mallory"),
        "more for its own role": lambda: iam.attach_role_policy(RoleName=own, PolicyArn=administrator),
        "another policy of its own": lambda: iam.put_role_policy(RoleName=own, PolicyName="more", PolicyDocument=trust),
        "a role of another name": lambda: iam.create_role(
            RoleName="mallory", AssumeRolePolicyDocument=trust, PermissionsBoundary=BOUNDARY
        ),
        f"a role of {other}": lambda: iam.create_role(
            RoleName=f"tagged-config-{other}-more", AssumeRolePolicyDocument=trust, PermissionsBoundary=BOUNDARY
        ),
        "a role without the boundary": lambda: iam.create_role(RoleName=f"tagged-config-{env}-more", AssumeRolePolicyDocument=trust),
        "a boundary taken away": lambda: iam.delete_role_permissions_boundary(RoleName=f"tagged-config-{env}-execution"),
        "an administrator": lambda: iam.attach_role_policy(RoleName=f"tagged-config-{env}-execution", PolicyArn=administrator),
        "a VPC of others": lambda: ec2.delete_vpc(VpcId=vpc),
        "others' VPC as its own": lambda: ec2.create_tags(Resources=[vpc], Tags=project),
        "a VPC without tags": lambda: ec2.create_vpc(CidrBlock="10.99.0.0/16"),
        "tenants' items": lambda: dynamodb.scan(TableName="TenantConfigurations-dev" if env == "dev" else "TenantConfigurations"),
        f"the table of {other}": lambda: dynamodb.delete_table(
            TableName="TenantConfigurations" if env == "dev" else "TenantConfigurations-dev"
        ),
        "an entry of the history": lambda: dynamodb.delete_item(
            TableName=f"TenantConfigurations{'-dev' if env == 'dev' else ''}History", Key={"PK": {"S": "TENANT#a"}, "SK": {"S": "tenant_config_a"}}
        ),
        "a tenant's parameter": lambda: ssm.get_parameter(Name=f"/tagged-config-{env}/config/tenants/a/rate"),
        "a tenant's blob": lambda: s3.get_object(**blob),
        "a blob for a tenant": lambda: s3.put_object(**blob, Body=b"1"),
        "a tenant's secret": lambda: secrets.get_secret_value(SecretId=f"tagged-config-{env}/config/tenants/a/key"),
    }
    return {title: _is_refused(attempt) for title, attempt in tries.items()}


def used(log: str) -> set[str]:
    """The actions that a log of moto_iam.py says were used."""
    return set(re.findall(r"^USED (\S+)$", log, re.MULTILINE))


def granted(root: Path) -> set[str]:
    """The actions that the applied policies of the role allow; `root` is the copy of terraform/deployer that was applied."""
    return {
        action
        for state in root.glob("*.tfstate")
        for resource in json.loads(state.read_text())["resources"]
        if resource["type"] in ("aws_iam_policy", "aws_iam_role_policy")
        for instance in resource["instances"]
        for statement in json.loads(instance["attributes"]["policy"])["Statement"]
        if statement["Effect"] == "Allow"
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }


def superfluous(granted: set[str], used: set[str]) -> list[str]:
    """Actions that are granted without a use or a reason. Some are used by chance: while something takes its time."""
    patterns = [pattern for several in UNUSED.values() for pattern in several]
    return sorted(action for action in granted - used if not any(fnmatch.fnmatchcase(action, pattern) for pattern in patterns))


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except ClientError as error:
        return error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
    return False


def _client(service: str, environment: Mapping[str, str]):
    return boto3.client(
        service, region_name=environment["AWS_REGION"], endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=environment.get("AWS_SESSION_TOKEN"),
    )
