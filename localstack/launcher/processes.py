"""Processes that outlive the launcher, known by pid and start time so that no foreign process is ever signalled."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Sequence

from .errors import StackError
from .layout import Layout

_spawned: dict[int, subprocess.Popen] = {}
"""This launcher's own children, so that it can reap one that ends."""


@dataclass(frozen=True)
class ProcessRecord:
    """A started process. `started` distinguishes it from a later process with the same pid; `fingerprint` says what was
    started (program and settings), so that `up` can see whether a running one is still the wanted one."""

    name: str
    pid: int
    started: str
    fingerprint: str

    @property
    def running(self) -> bool:
        child = _spawned.get(self.pid)
        if child is not None and child.poll() is not None:
            return False
        return start_time(self.pid) == self.started


def start_time(pid: int) -> str | None:
    """When a live process started, as text that can only be compared. None for no process, or a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The command name, in brackets, may hold spaces: count the fields behind it.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    answer = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def spawn(
    layout: Layout, name: str, command: Sequence[str], environment: Mapping[str, str], fingerprint: str
) -> ProcessRecord:
    """Starts a process in a session of its own, its output appended to its log, and records it."""
    with open(layout.log(name), "a") as log:
        try:
            child = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=layout.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StackError(f"{name} could not be started: {error}") from error
    _spawned[child.pid] = child
    record = ProcessRecord(name, child.pid, start_time(child.pid) or "ended at once", fingerprint)
    (layout.pids / f"{name}.json").write_text(json.dumps(dataclasses.asdict(record)))
    return record


def recorded(layout: Layout) -> dict[str, ProcessRecord]:
    """Every process that was started in this stack and not stopped since, running or not."""
    records = {}
    for file in sorted(layout.pids.glob("*.json")) if layout.pids.exists() else []:
        try:
            record = ProcessRecord(**json.loads(file.read_text()))
        except (ValueError, TypeError):
            continue
        records[record.name] = record
    return records


def find(layout: Layout, name: str) -> ProcessRecord | None:
    """The recorded process of that name, running or not."""
    return recorded(layout).get(name)


def stop(layout: Layout, record: ProcessRecord, grace_seconds: float) -> None:
    """Sends SIGTERM, and SIGKILL after the grace, to the process and its children. Removes the record."""
    if record.running:
        _signal(os.kill, record.pid, signal.SIGTERM)
        if not wait_until(lambda: not record.running, grace_seconds):
            _signal(os.killpg, record.pid, signal.SIGKILL)
            wait_until(lambda: not record.running, 5.0)
    # What the process started is in its group. The group's number is free for no other process while one of them
    # lives; if a foreign process has the number as its pid now, the group is gone.
    if start_time(record.pid) is None:
        _signal(os.killpg, record.pid, signal.SIGKILL)
    (layout.pids / f"{record.name}.json").unlink(missing_ok=True)


def stop_all(layout: Layout, records: Sequence[ProcessRecord], grace_seconds: float) -> None:
    """Stops several processes at once. The grace is the same time for all of them."""
    for record in records:
        if record.running:
            _signal(os.kill, record.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    wait_until(lambda: not any(record.running for record in records), grace_seconds)
    for record in records:
        stop(layout, record, max(0.0, deadline - time.monotonic()))


def wait_until(condition: Callable[[], bool], seconds: float, interval: float = 0.05) -> bool:
    """Waits for the condition. Returns whether it became true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def tail(log: Path, lines: int) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _signal(send: Callable[[int, int], None], number: int, which: signal.Signals) -> None:
    try:
        send(number, which)
    except (ProcessLookupError, PermissionError):
        pass
