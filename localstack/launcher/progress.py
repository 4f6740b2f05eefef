"""Prints progress: one line for each step with the seconds since the start, and updates during long steps."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from typing import Iterator, TextIO

HEARTBEAT_SECONDS = 15.0


class Step:
    """A running step. `detail` is the text of its line at its end."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.detail = ""
        self._progress = progress
        self._title = title
        self._last_beat = time.monotonic()

    def activity(self, text: str) -> None:
        """Shows the step's current activity: in place on a terminal, otherwise every 15 s."""
        if self._progress.interactive:
            self._progress.draw(f"{self._title}: {text}")
        elif time.monotonic() - self._last_beat >= HEARTBEAT_SECONDS:
            self._last_beat = time.monotonic()
            self._progress.line(f"  ... {self._title}: {text}")


class Progress:
    """Prints the steps of one command."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self.interactive = stream.isatty()
        self._stream = stream
        self._start = time.monotonic()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One step. Its line is printed at its end, also after a failure."""
        step = Step(self, title)
        step.activity("...")
        try:
            yield step
        except BaseException:
            self.line(f"{title:<15} FAILED")
            raise
        self.line(f"{title:<15} {step.detail or 'done'}")

    def line(self, text: str) -> None:
        """A line of its own, with the seconds since the start."""
        self._clear()
        print(f"[{time.monotonic() - self._start:6.1f}s] {text}", file=self._stream, flush=True)

    def draw(self, text: str) -> None:
        """Text that the next line overwrites (terminals only)."""
        width = shutil.get_terminal_size().columns - 1
        self._clear()
        print(f"[{time.monotonic() - self._start:6.1f}s] {text}"[:width], end="", file=self._stream, flush=True)

    def _clear(self) -> None:
        if self.interactive:
            print("\r\x1b[2K", end="", file=self._stream)
