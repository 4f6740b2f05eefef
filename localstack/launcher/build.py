"""Builds the binaries and packs the Lambda's zip."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from . import commands
from .errors import StackError
from .layout import REPOSITORY, Layout, cargo_target
from .progress import Step
from .settings import CONFIG_SERVICE, ORDER_SERVICE, Settings

INVALIDATOR = "invalidator"
BINARIES = (CONFIG_SERVICE, ORDER_SERVICE, INVALIDATOR)


def build(layout: Layout, settings: Settings, step: Step) -> None:
    """Runs cargo build, unless the stack has a folder of ready binaries, and packs the zip."""
    wanted = (INVALIDATOR,) if settings.docker_network else BINARIES
    if settings.bin_dir is None:
        if settings.profile == "release":
            command = ["cargo", "build", "--locked", "--release", *(flag for name in wanted for flag in ("-p", name))]
        else:
            # The same selection as for the tests: another one would compile the dependencies again.
            command = ["cargo", "build", "--locked", "--workspace", "--all-targets"]
        commands.run(
            command,
            step=step,
            log=layout.log("build"),
            failure="cargo build failed",
            timeout_seconds=3600,
            cwd=REPOSITORY,
        )
    for name in wanted:
        if not binary(settings, name).is_file():
            raise StackError(f"{binary(settings, name)} is missing")
    pack(binary(settings, INVALIDATOR), layout.invalidator_zip)
    step.detail = ", ".join(wanted)


def binary(settings: Settings, name: str) -> Path:
    """Where a binary of this stack's profile lies."""
    if settings.bin_dir is not None:
        return Path(settings.bin_dir) / name
    return cargo_target() / ("release" if settings.profile == "release" else "debug") / name


def pack(program: Path, archive: Path) -> None:
    """Zips a program as Lambda's `bootstrap`: the same bytes for the same program."""
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = (0o100755 << 16)
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(archive, "w") as output:
        output.writestr(entry, program.read_bytes(), compresslevel=1)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
