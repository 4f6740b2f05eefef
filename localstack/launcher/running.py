"""Finds the running stack, locks it for one command, and takes it down. Needs no virtual environment."""

from __future__ import annotations

import contextlib
import fcntl
from typing import Iterator

from . import containers, emulator, processes, settings as stack_settings
from .errors import StackError
from .layout import Layout
from .settings import Settings

STOP_SECONDS = 30
"""How long a replica may take to drain after SIGTERM."""


@contextlib.contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Locks the stack: one command at a time may change it."""
    layout.root.mkdir(parents=True, exist_ok=True)
    with open(layout.lock, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"another command is at work on the stack in {layout.root}: wait for its end") from error
        yield


def require_ready(layout: Layout) -> Settings:
    """The running stack of this folder."""
    stack = stack_settings.load(layout)
    if stack is None or not stack.ready:
        raise StackError(f"no stack runs in {layout.root}: start one with `make local`")
    record = processes.find(layout, emulator.NAME)
    if record is None or not record.running:
        raise StackError("the stack's emulator is dead: start it again with `make local`", layout.log(emulator.NAME))
    stack.refresh_addresses()
    return stack


def take_down(layout: Layout) -> None:
    """Stops every recorded process, the emulator last, and forgets the stack. The logs stay."""
    records = processes.recorded(layout)
    last = records.pop(emulator.NAME, None)
    processes.stop_all(layout, list(records.values()), STOP_SECONDS)
    if last:
        processes.stop(layout, last, grace_seconds=5)
    stack = stack_settings.load(layout)
    if stack and stack.docker_network:
        containers.remove_all(stack.docker_network)
    layout.forget()


def down(layout: Layout) -> list[str]:
    """Stops every process of the stack and removes what it wrote; returns what is left in its folder."""
    if not layout.root.exists():
        return []
    with exclusive(layout):
        take_down(layout)
        return layout.remove()
