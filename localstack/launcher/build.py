"""Builds the binaries and packs the Lambda's zip."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from . import commands
from .errors import StackError
from .layout import REPOSITORY, Layout, cargo_target
from .progress import Progress, Step
from .settings import CONFIG_SERVICE, ORDER_SERVICE, Settings

INVALIDATOR = "invalidator"
HARNESS = "loadtest"
BINARIES = (CONFIG_SERVICE, ORDER_SERVICE, INVALIDATOR)


def build(layout: Layout, settings: Settings, step: Step) -> None:
    """Runs cargo build, unless the stack has a folder of ready binaries, and packs the zip."""
    wanted = (INVALIDATOR,) if settings.docker_network else BINARIES
    if settings.bin_dir is None:
        if settings.profile == "dev":
            # The same selection as for the tests: another one would compile the dependencies again.
            selection = ["--workspace", "--all-targets"]
        else:
            selection = ["--profile", settings.profile, *(flag for name in wanted for flag in ("-p", name))]
        cargo_build(selection, layout, step)
    for name in wanted:
        if not binary(settings, name).is_file():
            raise StackError(f"{binary(settings, name)} is missing")
    pack(binary(settings, INVALIDATOR), layout.invalidator_zip)
    step.detail = ", ".join(wanted)


def harness(layout: Layout, settings: Settings, progress: Progress) -> Path:
    """Builds the load test's harness in the stack's profile. Returns the program."""
    if settings.profile != "dev":
        with progress.step("harness") as step:
            cargo_build(["--profile", settings.profile, "-p", HARNESS], layout, step)
    return binary(settings, HARNESS)


def cargo_build(selection: list[str], layout: Layout, step: Step) -> None:
    """Runs cargo build; the step shows how many crates are done."""
    commands.run(
        ["cargo", "build", "--locked", *selection],
        step=step,
        log=layout.log("build"),
        failure="cargo build failed",
        timeout_seconds=3600,
        cwd=REPOSITORY,
        environment=os.environ | {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "80"},
    )


def binary(settings: Settings, name: str) -> Path:
    """Where a binary of this stack's profile lies."""
    if settings.bin_dir is not None:
        return Path(settings.bin_dir) / name
    return cargo_target() / ("debug" if settings.profile == "dev" else settings.profile) / name


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
