"""Runs LocalStack beside MiniStack, by compose. LocalStack has the stores and the events, MiniStack the rest."""

from __future__ import annotations

import os
import shutil
import subprocess

from . import commands, containers, network, processes
from .errors import StackError
from .layout import LOCALSTACK, Layout
from .progress import Step
from .settings import Settings

COMPOSE_FILE = LOCALSTACK / "compose.yaml"
IMAGE_VARIABLE = "TAGGED_CONFIG_LOCALSTACK_IMAGE"
DEFAULT_IMAGE = "localstack/localstack:4.14.0"
"""The last release that runs without an account's token."""
START_SECONDS = 120


def image() -> str:
    """The image that compose starts."""
    return os.environ.get(IMAGE_VARIABLE) or DEFAULT_IMAGE


def compose() -> list[str]:
    """The command of compose on this machine: Docker's plugin, or a program of its own."""
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise StackError("docker compose is not installed (Debian: apt-get install docker-compose)")


def require(step: Step) -> None:
    """Checks that compose is installed, and pulls the image if it is missing."""
    compose()
    containers.require_image(image(), IMAGE_VARIABLE, step)


def environment(settings: Settings) -> dict[str, str]:
    """The variables that the compose file needs."""
    return {
        IMAGE_VARIABLE: image(),
        "TAGGED_CONFIG_DOCKER_NETWORK": settings.docker_network,
        "TAGGED_CONFIG_LOCALSTACK_ADDRESS": settings.stores_url.removeprefix("http://"),
    }


def start(layout: Layout, settings: Settings, step: Step) -> None:
    """Starts LocalStack and waits until it answers. The removal of the stack's network ends it."""
    commands.run(
        [*compose(), "--file", str(COMPOSE_FILE), "--project-name", settings.docker_network, "up", "--detach"],
        step=step,
        log=layout.log("localstack"),
        failure="LocalStack could not be started",
        timeout_seconds=START_SECONDS,
        cwd=LOCALSTACK,
        environment=os.environ | environment(settings),
    )
    if not processes.wait_until(lambda: answers(settings), START_SECONDS, interval=0.2):
        name = containers.named(f"{settings.docker_network}[-_]localstack[-_]1")
        layout.log("localstack").open("a").write(containers.logs(name, 40) + "\n" if name else "its container is gone\n")
        raise StackError(
            f"LocalStack did not answer at {settings.stores_url} within {START_SECONDS} s"
            " (releases after 4.14.0 want LOCALSTACK_AUTH_TOKEN)",
            layout.log("localstack"),
        )
    step.detail = f"{settings.stores_url}, {image()}"


def answers(settings: Settings) -> bool:
    """Whether LocalStack reports that it is healthy."""
    status, _ = network.request(f"{settings.stores_url}/_localstack/health", timeout_seconds=3)
    return status == 200
