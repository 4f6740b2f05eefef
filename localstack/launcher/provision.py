"""Terraform and the seed for an emulator that somebody else runs, such as a container of a test."""

from __future__ import annotations

import secrets
from typing import Any

import seed  # beside stack.py

from . import aws, build, terraform
from .layout import Layout
from .progress import Progress
from .replicas import Replicas
from .settings import DEFAULT_NETWORK, Settings


def provision(layout: Layout, progress: Progress, host: str, port: int, profile: str) -> dict[str, Any]:
    """Applies terraform/local and writes the seed; what tests and services need to know, services' settings included."""
    stack = Settings(profile, port, DEFAULT_NETWORK, f"Aa1!{secrets.token_urlsafe(18)}", gateway=host)
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
            "config": replicas.environment(stack.config[0]),
            "order": replicas.environment(stack.order),
            "config_service_id": stack.output("config_service_id"),
            "config_target_group_arn": stack.output("config_target_group_arn"),
            "order_target_group_arn": stack.output("order_target_group_arn"),
        }
