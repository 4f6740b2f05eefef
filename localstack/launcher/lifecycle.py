"""Starts a stack, and restarts its replicas. A failed `up` stops what it started itself."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from typing import Iterator

import seed  # beside stack.py

from . import aws, build, containers, emulator, localstack, network, prerequisites, processes, settings as stack_settings, terraform, why
from .errors import StackError
from .layout import Layout
from .progress import Progress
from .replicas import Replicas
from .running import STOP_SECONDS, exclusive, require_ready, take_down
from .tasks import Tasks
from .settings import DEFAULT_EMULATOR_PORT, DEFAULT_NETWORK, ORDER_NUMBER, Ports, Settings

EDGE_SECONDS = 30
SMOKE_KEY = "tenant_config_featureFlagX"


def up(
    layout: Layout,
    progress: Progress,
    *,
    profile: str,
    ephemeral: bool,
    config_replicas: int,
    bin_dir: str | None,
    in_containers: bool | None = False,
    with_localstack: bool = False,
) -> Settings:
    """Builds, starts what is missing, and returns when a signed-in request through the edge is answered.

    `in_containers`: whether the services are to be ECS tasks in containers; None for where that is possible.
    `with_localstack`: whether LocalStack is to have the stores; then they are."""
    if with_localstack and in_containers is False:
        raise StackError("LocalStack's functions are containers and reach no processes: leave DOCKER=0 out")
    with exclusive(layout), aws.reported(layout.log(emulator.NAME)), _interrupted_by_sigterm():
        stack = _existing(layout)
        if stack is not None and stack.with_localstack != with_localstack:
            stack = None
        in_containers = _decide(with_localstack or in_containers, stack, progress)
        if stack is not None and bool(stack.docker_network) != in_containers:
            stack = None
        if with_localstack and stack is None:
            with progress.step("localstack's image") as step:
                localstack.require(step)
        is_new = stack is None
        if stack is None:
            take_down(layout)
            stack = _new_stack(ephemeral)
            if in_containers:
                stack.docker_network = f"tagged-config-{stack.emulator_port}"
                stack.gateway = containers.make_network(stack.docker_network)
                stack.with_localstack = with_localstack
                if stack.enforces_iam:
                    containers.make_credentials_network()
                stack.save(layout)
        stack.profile = profile
        stack.config_replicas = config_replicas
        stack.bin_dir = bin_dir
        layout.make()
        replicas: Replicas | None = None
        try:
            with progress.step("prerequisites") as step:
                held = {name for name, record in processes.recorded(layout).items() if record.running}
                tools = prerequisites.check_tools()
                step.detail = prerequisites.require([*tools, *prerequisites.check_ports(stack, held)])
            with progress.step("build") as step:
                build.build(layout, stack, step)
            if in_containers:
                with progress.step("images") as step:
                    stack.images = containers.build(layout, step, profile)
                    step.detail = ", ".join(stack.images.values())
            with progress.step("emulator") as step:
                if is_new:
                    emulator.start(layout, stack, step)
                else:
                    step.detail = f"{stack.emulator_url} runs already"
            if is_new and with_localstack:
                with progress.step("localstack") as step:
                    localstack.start(layout, stack, step)
            with progress.step("terraform") as step:
                terraform.apply(layout, stack, step)
            with progress.step("seed") as step:
                step.detail = _seed(stack)
            if in_containers:
                Tasks(layout, stack, progress).ensure()
            else:
                replicas = Replicas(layout, stack, progress)
                replicas.ensure()
            with progress.step("edge") as step:
                step.detail = _await_edge(layout, stack)
            stack.ready = True
            stack.save(layout)
        except BaseException:
            _explain_denials(stack, progress)
            with _ignoring_signals():
                _undo(layout, is_new, replicas)
            raise
        return stack


def restart(layout: Layout, progress: Progress, names: list[str], *, if_down: bool = False) -> None:
    """Restarts replicas one by one, each ready and registered before the next one stops; with `if_down` only those
    that do not run."""
    stack = require_ready(layout)
    replicas = {replica.name: replica for replica in stack.replicas}
    unknown = [name for name in names if name not in replicas]
    if unknown and not (if_down and stack.docker_network):
        raise StackError(f"no replica is named {unknown[0]}: there are {', '.join(replicas)}")
    with exclusive(layout), aws.reported(layout.log(emulator.NAME)), _interrupted_by_sigterm():
        if stack.docker_network:
            tasks = Tasks(layout, stack, progress)
            if if_down:
                tasks.await_replacements()
                return
            for name in names:
                tasks.restart(replicas[name])
            if not names:
                tasks.roll()
            return
        starter = Replicas(layout, stack, progress)
        for name in names or list(replicas):
            record = processes.find(layout, name)
            if not (if_down and record and record.running):
                starter.restart(replicas[name])


def scale(layout: Layout, progress: Progress, count: int) -> None:
    """Changes the number of config-service's tasks."""
    stack = require_ready(layout)
    if not stack.docker_network:
        raise StackError("the services are processes: start the stack with `make local REPLICAS=N` instead")
    with exclusive(layout), aws.reported(layout.log(emulator.NAME)), _interrupted_by_sigterm():
        Tasks(layout, stack, progress).scale(count)
        stack.save(layout)


def _decide(wanted: bool | None, stack: Settings | None, progress: Progress) -> bool:
    """Whether the services are to be containers. A running stack stays as it is, unless the caller chose."""
    if wanted is False:
        return False
    if wanted is None and stack is not None:
        return bool(stack.docker_network)
    try:
        reason = containers.why_not()
        if reason:
            raise containers.Unavailable(reason)
        with progress.step("base images") as step:
            containers.require_bases(step)
            step.detail = ", ".join(containers.base(argument) for argument in containers.BASES)
    except containers.Unavailable as error:
        if wanted:
            raise
        progress.line(f"services run as processes, not containers: {error}")
        return False
    return True


def _existing(layout: Layout) -> Settings | None:
    """The stack that can be reused: it was ready, and its emulator still answers (the emulator keeps no state)."""
    stack = stack_settings.load(layout)
    return stack if stack and stack.ready and emulator.is_running(layout, stack) else None


def _new_stack(ephemeral: bool) -> Settings:
    ports = Ports()
    password = f"Aa1!{secrets.token_urlsafe(18)}"
    secret = secrets.token_urlsafe(32)
    if not ephemeral:
        return Settings("", DEFAULT_EMULATOR_PORT, DEFAULT_NETWORK, password, ports=ports, credentials_secret=secret)
    every_port = (ports.grpc, ports.refresh, ports.http, ports.order_http)
    return Settings("", network.free_port(), network.free_network((1, 2, ORDER_NUMBER), every_port), password, ports=ports,
                    credentials_secret=secret)


def _seed(stack: Settings) -> str:
    if stack.seeded:
        return "done before"
    summary = seed.seed(stack)
    stack.seeded = True
    return summary


def _await_edge(layout: Layout, stack: Settings) -> str:
    url = f"{stack.api_url}/v1/config/{SMOKE_KEY}"
    token = aws.sign_in(stack, stack_settings.USERS["TENANT_A_USER"][0])
    deadline = time.monotonic() + EDGE_SECONDS
    while True:
        status, body = aws.get_with_token(url, token)
        if status == 200:
            return f"GET {url} answers 200"
        emulator.require_running(layout)
        if time.monotonic() > deadline:
            raise StackError(
                f"GET {url} answers {status or 'nothing'} after {EDGE_SECONDS} s: {body[:200].decode(errors='replace')}",
                layout.log(emulator.NAME),
            )
        time.sleep(0.2)


def _explain_denials(stack: Settings, progress: Progress) -> None:
    """Prints the denials before the emulator, which holds them, stops."""
    with contextlib.suppress(StackError, OSError, ValueError):
        for paragraph in why.explain(stack)[-3:] if stack.enforces_iam else ():
            progress.line(f"denied: {paragraph}")


def _undo(layout: Layout, is_new: bool, replicas: Replicas | None) -> None:
    """Cleans up after a failure: removes a new stack, or stops what this command started in one that ran before."""
    if is_new:
        take_down(layout)
        return
    processes.stop_all(layout, replicas.started if replicas else [], STOP_SECONDS)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, clean-up included."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _ignoring_signals() -> Iterator[None]:
    """Ignores a second Ctrl-C, so that the clean-up is completed."""
    before = {which: signal.signal(which, signal.SIG_IGN) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
