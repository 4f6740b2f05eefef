"""Credentials of the roles that Terraform made, for the programs of a stack. None of them has the account's root.

Where the emulator enforces IAM, a service gets the address and the authorization token of the credentials endpoint, as ECS
gives them to a task, and its SDK renews them. A program that cannot use the endpoint gets the keys of one session.
"""

from __future__ import annotations

import json
import os

from iam_enforcement import credentials  # beside stack.py

from . import network
from .errors import StackError
from .settings import Settings

ROOT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""The emulated account's root, for the person whose machine it is."""


def of_task(settings: Settings, role: str, task: str) -> dict[str, str]:
    """The variables that lead a task's SDK to the credentials of its role."""
    if not settings.enforces_iam:
        return ROOT
    path = _path(settings, role, task)
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": settings.emulator_url + path,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": credentials.Tokens(settings.credentials_secret).of(path),
        # A person's own profiles would take precedence over the credentials endpoint.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def of_session(settings: Settings, role: str, task: str) -> dict[str, str]:
    """The variables of one session of a role. It is not renewed."""
    if not settings.enforces_iam:
        return ROOT
    path = _path(settings, role, task)
    token = credentials.Tokens(settings.credentials_secret).of(path)
    status, body = network.request(settings.emulator_url + path, headers={"Authorization": token})
    if status != 200:
        raise StackError(f"the emulator gives no credentials of {role}: {status or 'no answer'} {body[:200].decode(errors='replace')}")
    made = json.loads(body)
    return {
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
        "AWS_SESSION_TOKEN": made["Token"],
    }


def _path(settings: Settings, role: str, task: str) -> str:
    roles = settings.outputs["task_roles"]
    if role not in roles:
        raise StackError(f"no role is named {role}: there are {', '.join(sorted(roles))}")
    return credentials.path_of(roles[role], settings.output("vpc_id"), task)
