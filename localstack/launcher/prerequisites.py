"""Checks what the machine must have. Each finding is one line that says what was found, or what to do."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from . import network, terraform_binary
from .errors import StackError
from .layout import BIN, REPOSITORY
from .settings import Settings

MINIMUM_RUST = (1, 95)
MINIMUM_PYTHON = (3, 10)


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    good: bool
    text: str


def check_tools() -> list[Finding]:
    """Checks Rust, Python and Terraform. A missing Terraform is no failure: `up` downloads it."""
    return [_rust(), _python(), _terraform()]


def check_ports(settings: Settings, held: set[str]) -> list[Finding]:
    """Checks every address that the stack will listen on. `held` names its processes that already listen."""
    wanted = [("emulator", settings.emulator_host, settings.emulator_port)]
    if not settings.docker_network:
        wanted += [(replica.name, replica.address, port) for replica in settings.replicas for port in replica.ports]
    problems = []
    for name, address, port in wanted:
        problem = None if name in held else network.bind_problem(address, port)
        if problem:
            problems.append(Finding(False, f"{name}: {problem}"))
    where = settings.docker_network or f"{settings.network}.0/24"
    return problems or [Finding(True, f"ports free (emulator {settings.emulator_port}, {where})")]


def require(findings: list[Finding]) -> str:
    """Returns all findings in one line. Raises the failures, one line each."""
    failures = [finding.text for finding in findings if not finding.good]
    if failures:
        raise StackError("\n       ".join(failures))
    return ", ".join(finding.text for finding in findings)


def _rust() -> Finding:
    advice = "install Rust from https://rustup.rs, then: rustup update stable"
    if not shutil.which("cargo"):
        return Finding(False, f"cargo is not installed: {advice}")
    answer = subprocess.run(["cargo", "--version"], cwd=REPOSITORY, capture_output=True, text=True)
    found = re.search(r"cargo (\d+)\.(\d+)\.\d+", answer.stdout)
    if not found:
        return Finding(False, f"cargo --version failed: {advice}")
    if (int(found[1]), int(found[2])) < MINIMUM_RUST:
        return Finding(False, f"{found[0]} is older than 1.95: {advice}")
    return Finding(True, found[0])


def _python() -> Finding:
    found = "Python " + ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MINIMUM_PYTHON:
        return Finding(False, f"{found} is older than 3.10: install a newer one and put it first in the PATH")
    if sys.prefix == sys.base_prefix and not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        return Finding(False, f"{found} lacks venv and pip: apt-get install python3-venv (Debian, Ubuntu)")
    return Finding(True, found)


def _terraform() -> Finding:
    binary = terraform_binary.find()
    if binary is None:
        return Finding(True, f"Terraform absent (make local fetches {terraform_binary.PINNED} into {BIN})")
    return Finding(True, f"Terraform {terraform_binary.version(binary)}")
