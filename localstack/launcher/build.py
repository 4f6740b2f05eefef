"""Builds the binaries and packs the Lambda's zip."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Callable, Iterable

from . import commands
from .errors import StackError
from .layout import REPOSITORY, Layout, cargo_target
from .progress import Progress, Step
from .settings import CONFIG_SERVICE, ORDER_SERVICE, Settings

INVALIDATOR = "invalidator"
INVALIDATOR_MODULE = "module.refresh"
HARNESS = "loadtest"
BINARIES = (CONFIG_SERVICE, ORDER_SERVICE, INVALIDATOR)


def is_first(settings: Settings) -> bool:
    """Whether nothing was built in this profile before."""
    return settings.bin_dir is None and not binary(settings, INVALIDATOR).is_file()


def placeholder(layout: Layout) -> None:
    """A zip in place of the invalidator's, until that is built. Nothing calls it meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, INVALIDATOR)
        program.write_text("#!/bin/sh\nexit 1\n")
        pack(program, layout.invalidator_zip)


def build(layout: Layout, settings: Settings, step: Step) -> None:
    """Runs cargo build, unless the stack has a folder of ready binaries, and packs the zip."""
    compile_all(layout, settings, step)
    pack_invalidator(layout, settings)


def pack_invalidator(layout: Layout, settings: Settings) -> None:
    """Packs the invalidator's zip."""
    pack(binary(settings, INVALIDATOR), layout.invalidator_zip)


def compile_all(layout: Layout, settings: Settings, step: Step, watch: Callable[[], None] = lambda: None) -> None:
    """Runs cargo build, unless the stack has a folder of ready binaries."""
    wanted = (INVALIDATOR,) if settings.docker_network else BINARIES
    if settings.bin_dir is None:
        if settings.profile == "dev":
            # The same selection as for the tests: another one would compile the dependencies again.
            selection = ["--workspace", "--all-targets"]
        else:
            selection = programs(settings, wanted)
        cargo_build(selection, layout, step, watch)
    for name in wanted:
        if not binary(settings, name).is_file():
            raise StackError(f"{binary(settings, name)} is missing")
    step.detail = ", ".join(wanted)


def harness(layout: Layout, settings: Settings, progress: Progress) -> Path:
    """Builds the load test's harness in the stack's profile. Returns the program."""
    if settings.profile != "dev":
        with progress.step("harness") as step:
            cargo_build(programs(settings, [HARNESS]), layout, step)
    return binary(settings, HARNESS)


def programs(settings: Settings, names: Iterable[str]) -> list[str]:
    """Cargo's options for these programs. All of the workspace is selected, so that crates have the same features whichever
    program is built, and are compiled once."""
    return ["--profile", settings.profile, "--workspace", *(option for name in names for option in ("--bin", name))]


def cargo_build(selection: list[str], layout: Layout, step: Step, watch: Callable[[], None] = lambda: None) -> None:
    """Runs cargo build; the step shows how many crates are done."""
    commands.run(
        ["cargo", "build", "--locked", *selection],
        step=step,
        log=layout.log("build"),
        failure="cargo build failed",
        timeout_seconds=3600,
        cwd=REPOSITORY,
        environment=os.environ | {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "80"},
        watch=watch,
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
