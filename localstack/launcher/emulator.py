"""The emulator's process: MiniStack with the extensions beside stack.py, on a port of this machine only."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Mapping

import ecs_tasks  # beside stack.py
import faults
import iam_enforcement
import secret_events

from . import network, processes
from .errors import StackError
from .layout import LOCALSTACK, Layout
from .progress import Step
from .settings import REGION, Settings

NAME = "emulator"
START_SECONDS = 60


def environment(
    port: int,
    folder: Path,
    host: str = "127.0.0.1",
    docker_network: str = "",
    endpoints: Mapping[str, str] | None = None,
    enforce_iam: bool = True,
    credentials_secret: str = "",
) -> dict[str, str]:
    """All that the emulator sees. It hands its own environment on to the Lambdas that it runs, so nothing of the
    person's own is in here. With a Docker network, ECS tasks run as containers in it, and use these endpoints.
    `credentials_secret` opens the tasks' credentials endpoint (`credentials`); the emulator forgets the variable at once."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    tasks = {ecs_tasks.NETWORK_VARIABLE: docker_network} if docker_network else {}
    if credentials_secret:
        tasks[iam_enforcement.SECRET_VARIABLE] = credentials_secret
    if secret_events.VARIABLE in os.environ:
        tasks[secret_events.VARIABLE] = os.environ[secret_events.VARIABLE]
    return tasks | {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "STATE_DIR": str(folder / "state"),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": host,
        "MINISTACK_HOST": host,
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": "0",
        "LAMBDA_EXECUTOR": "local",
        "AUTH": "true" if enforce_iam else "false",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        **(endpoints or {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def command() -> list[str]:
    """The command that starts the emulator, with the virtual environment's Python."""
    return [sys.executable, str(LOCALSTACK / "emulator.py")]


def start(layout: Layout, settings: Settings, step: Step) -> None:
    """Starts the emulator and waits until it answers."""
    record = processes.spawn(
        layout,
        NAME,
        command(),
        environment(
            settings.emulator_port, layout.emulator, settings.emulator_host, settings.docker_network, settings.endpoints(),
            settings.enforces_iam, settings.credentials_secret,
        ),
        fingerprint="emulator",
    )
    ready = processes.wait_until(lambda: answers(settings) or not record.running, START_SECONDS, interval=0.1)
    if not record.running:
        raise StackError("the emulator ended at its start", layout.log(NAME))
    if not ready:
        raise StackError(f"the emulator did not answer within {START_SECONDS} s", layout.log(NAME))
    step.detail = settings.emulator_url


def answers(settings: Settings) -> bool:
    """Whether the emulator reports that it is healthy."""
    status, _ = network.request(f"{settings.emulator_url}/_ministack/health", timeout_seconds=3)
    return status == 200


def faults_url(settings: Settings) -> str:
    """The URL at which the fault suite sets and clears faults."""
    return settings.emulator_url + faults.PATH


def is_running(layout: Layout, settings: Settings) -> bool:
    """Whether this stack's own emulator runs and answers."""
    record = processes.find(layout, NAME)
    return record is not None and record.running and answers(settings)


def require_running(layout: Layout) -> None:
    """Raises if the emulator's process is gone, so that no step waits for it in vain."""
    record = processes.find(layout, NAME)
    if record is None or not record.running:
        raise StackError("the emulator is dead", layout.log(NAME))
