"""The error that ends a command: one sentence for a person, and the log with the details."""

from __future__ import annotations

from pathlib import Path


class StackError(Exception):
    """What went wrong and what to do, in one sentence; `log` names the file with the details."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log
