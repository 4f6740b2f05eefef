"""Clients of the emulator's AWS interfaces, and the calls that several steps share."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterator, Mapping

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from . import credentials, network
from .errors import StackError
from .settings import REGION, Settings

AwsError = (BotoCoreError, ClientError)


def client(settings: Settings, service: str, keys: Mapping[str, str] = credentials.ROOT) -> Any:
    """A client that can only ever reach this stack's emulator; by default it is the account's root."""
    return boto3.client(
        service,
        endpoint_url=settings.endpoint(service),
        region_name=REGION,
        **{name.lower(): value for name, value in keys.items()},
        config=Config(
            connect_timeout=3,
            read_timeout=20,
            retries={"max_attempts": 2},
            inject_host_prefix=False,
            proxies={},
            # No name resolves to a bucket of the emulator.
            s3={"addressing_style": "path"},
        ),
    )


@contextlib.contextmanager
def reported(log: Path) -> Iterator[None]:
    """Converts a failed call to the emulator into the one message that ends a command."""
    try:
        yield
    except AwsError as error:
        raise StackError(f"a call to the emulator failed: {error}", log) from error


def sign_in(settings: Settings, email: str) -> str:
    """Returns the ID token of one of the stack's users."""
    answer = client(settings, "cognito-idp").initiate_auth(
        AuthFlow="USER_PASSWORD_AUTH",
        ClientId=settings.output("client_id"),
        AuthParameters={"USERNAME": email, "PASSWORD": settings.password},
    )
    return answer["AuthenticationResult"]["IdToken"]


def assume_role(settings: Settings, role: str, session: str) -> dict[str, str]:
    """The variables of a session of this role, which the account's root may assume."""
    sts = client(settings, "sts")
    account = sts.get_caller_identity()["Account"]
    made = sts.assume_role(RoleArn=f"arn:aws:iam::{account}:role/{role}", RoleSessionName=session)["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
        "AWS_SESSION_TOKEN": made["SessionToken"],
    }


def refresh_credential(settings: Settings) -> str:
    """The secret of the refresh port, read as ECS reads a task's secrets: with the execution role."""
    keys = credentials.of_session(settings, "execution", "launcher")
    answer = client(settings, "ssm", keys).get_parameters(
        Names=[settings.output("refresh_credential_parameter")], WithDecryption=True
    )
    if not answer["Parameters"]:
        raise StackError(f"there is no parameter {settings.output('refresh_credential_parameter')}")
    return answer["Parameters"][0]["Value"]


def get_with_token(url: str, token: str) -> tuple[int, bytes]:
    """Sends a GET with a token. Returns the status and the body."""
    return network.request(url, headers={"Authorization": f"Bearer {token}"})
