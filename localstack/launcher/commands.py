"""Runs a command-line tool, with its output in a log and a progress line for the person who waits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

from .errors import StackError
from .progress import Step

CRATES = re.compile(r"^\s*Building \[.*?\] (\d+)/(\d+)")
"""Cargo's progress, which it draws over and over."""


def run(
    command: Sequence[str],
    *,
    step: Step,
    log: Path,
    failure: str,
    timeout_seconds: float,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], None] = lambda: None,
    end: Callable[[subprocess.Popen], None] | None = None,
) -> None:
    """Runs a command; `failure` is the error's message. `watch` is called all the while and may raise to end it.

    The command runs in a session of its own and is ended, with all it started, when this function does not end well: by `end`,
    where it takes more than a signal.
    """
    with open(log, "a") as output:
        print(f"$ {' '.join(command)}", file=output, flush=True)
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        last_line = [""]
        reader = threading.Thread(target=_copy, args=(child, output, last_line), daemon=True)
        reader.start()
        deadline = time.monotonic() + timeout_seconds
        try:
            while child.poll() is None:
                watch()
                if time.monotonic() >= deadline:
                    raise StackError(f"{failure} (no end after {timeout_seconds:.0f} s)", log)
                step.activity(last_line[0])
                time.sleep(0.2)
        except BaseException:
            (end or _end)(child)
            raise
        reader.join(timeout=5)
    if child.returncode != 0:
        raise StackError(failure, log)


def _copy(child: subprocess.Popen, output, last_line: list[str]) -> None:
    for line in child.stdout:
        crates = CRATES.match(line)
        if crates:
            last_line[0] = "{} of {} crates".format(*crates.groups())
            continue
        output.write(line)
        output.flush()
        if line.strip() and not (" of " in last_line[0] and line.lstrip().startswith("Compiling ")):
            last_line[0] = line.strip()


def _end(child: subprocess.Popen) -> None:
    for which, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(child.pid, which)
            child.wait(timeout=seconds)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
