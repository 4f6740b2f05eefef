"""Paths: the repository, the caches that all stacks share, and one stack's own folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LOCALSTACK = REPOSITORY / "localstack"
TERRAFORM = REPOSITORY / "terraform"
SHARED = REPOSITORY / ".local"
"""The default stack's folder. Also holds what every stack shares and `down` keeps: see `CACHES`."""

CACHES = ("venv", "venv.log", "venv.lock", "bin", "cache")
BIN = SHARED / "bin"
CACHE = SHARED / "cache"


def cargo_target() -> Path:
    """Cargo's target folder."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()


@dataclass(frozen=True)
class Layout:
    """The folder of one stack, which holds everything that the stack writes."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "stack.json"

    @property
    def lock(self) -> Path:
        return self.root / "stack.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def terraform(self) -> Path:
        return self.root / "terraform"

    @property
    def emulator(self) -> Path:
        return self.root / "emulator"

    @property
    def invalidator_zip(self) -> Path:
        return self.root / "invalidator.zip"

    def log(self, name: str) -> Path:
        """The log of a step or a process."""
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Creates the folders. They hold credentials of the emulator, so only the owner may enter."""
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in (self.logs, self.pids, self.terraform, self.emulator):
            folder.mkdir(mode=0o700, exist_ok=True)

    def forget(self) -> None:
        """Removes the state of a running stack, and keeps the logs."""
        for folder in (self.pids, self.terraform, self.emulator):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.settings, self.invalidator_zip):
            file.unlink(missing_ok=True)

    def remove(self) -> list[str]:
        """Removes everything the launcher made here, and returns what is left.

        Only its own files, by name: the folder may be one that a person named.
        """
        self.forget()
        shutil.rmtree(self.logs, ignore_errors=True)
        self.lock.unlink(missing_ok=True)
        left = sorted(entry.name for entry in self.root.iterdir()) if self.root.exists() else []
        if not left and self.root.exists():
            self.root.rmdir()
        return left
