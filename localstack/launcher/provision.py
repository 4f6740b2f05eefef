"""Terraform and the seed for an emulator that runs outside this launcher, such as a container of a test."""

from __future__ import annotations

import os
import secrets
from typing import Any

import iam_enforcement  # beside stack.py
import seed

from . import aws, build, credentials, terraform
from .layout import Layout
from .progress import Progress
from .replicas import Replicas
from .settings import CONFIG_SERVICE, DEFAULT_NETWORK, Settings


def provision(layout: Layout, progress: Progress, host: str, port: int, profile: str) -> dict[str, Any]:
    """Applies terraform/local and writes the seed. Returns the variables that tests and services need."""
    stack = Settings(profile, port, DEFAULT_NETWORK, f"Aa1!{secrets.token_urlsafe(18)}", gateway=host,
                     credentials_secret=os.environ.get(iam_enforcement.SECRET_VARIABLE, ""))
    layout.make()
    build.pack(build.binary(stack, build.INVALIDATOR), layout.invalidator_zip)
    with aws.reported(layout.log(terraform.LOG)):
        with progress.step("terraform") as step:
            terraform.apply(layout, stack, step, watch=lambda: None)
        with progress.step("seed") as step:
            step.detail = seed.seed(stack)
        replicas = Replicas(layout, stack, progress)
        return {
            "variables": stack.environment(),
            # Keys of a session: SDKs accept no credentials from an address like the emulator's container's.
            "config": replicas.environment(stack.config[0], credentials.of_session(stack, CONFIG_SERVICE, "config")),
            "order": replicas.environment(stack.order),
            "config_service_id": stack.output("config_service_id"),
            "config_target_group_arn": stack.output("config_target_group_arn"),
            "order_target_group_arn": stack.output("order_target_group_arn"),
        }
