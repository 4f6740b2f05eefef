"""One environment's Terraform: its variables, its state, and how it is called."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Mapping, Sequence

from launcher import commands as tools
from launcher import terraform, terraform_binary
from launcher.errors import StackError
from launcher.layout import REPOSITORY, SHARED, TERRAFORM
from launcher.progress import Progress

ROOT = TERRAFORM / "aws"
BACKEND = ROOT / "backend_override.tf"
"""Written by `bootstrap-state`, never committed: with it the state lies in a bucket, without it in this folder."""


def folder_of(name: str) -> Path:
    """Where an environment's log, build and memory lie."""
    return SHARED / "aws" / name


class Stack:
    """An environment (`dev`, `prod`) and the variables it is to have beside those of its file."""

    def __init__(self, name: str, variables: Mapping[str, str], progress: Progress) -> None:
        self.name = name
        self.prefix = f"tagged-config-{name}"
        self.folder = folder_of(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "terraform.log"
        self._progress = progress
        self.variables = dict(variables)
        self._binary = terraform_binary.find_or_fetch()
        self._initialised = False

    def initialise(self) -> None:
        """terraform init, once."""
        if self._initialised:
            return
        options = [f"-backend-config=key={self.name}/terraform.tfstate", "-reconfigure"] if BACKEND.exists() else []
        with self._progress.step("init") as step:
            terraform.initialise(
                self._binary, ROOT, self.folder / "data", step, self.log, options=options, variables=self._environment()
            )
        self._initialised = True

    def plan(self, extra: Sequence[str]) -> int:
        """Shows what an apply would change."""
        self.initialise()
        command = self._command("plan", [*extra, *([] if sys.stdout.isatty() else ["-no-color"])])
        return subprocess.run(command, cwd=ROOT, env=self._environment()).returncode

    def apply(self, title: str, extra: Sequence[str], *, verb: str = "apply", timeout_seconds: float = 5400) -> None:
        """Applies, or destroys, without asking."""
        self.initialise()
        with self._progress.step(title) as step:
            tools.run(
                self._command(verb, ["-auto-approve", "-no-color", "-parallelism=20", *extra]),
                step=step,
                log=self.log,
                failure=f"terraform {verb} failed",
                timeout_seconds=timeout_seconds,
                cwd=ROOT,
                environment=self._environment(),
            )

    def push_state(self, file: Path) -> None:
        """Makes a state file the present state."""
        self.initialise()
        self._read("state", "push", str(file))

    def outputs(self) -> dict:
        """What is deployed; empty where nothing is."""
        return {name: output["value"] for name, output in json.loads(self.raw_outputs()).items()}

    def raw_outputs(self) -> str:
        """The same as Terraform prints it, with types."""
        self.initialise()
        return self._read("output", "-json", *self._state())

    def resources(self) -> list[dict]:
        """The managed resources in the state, as it is stored: also of a stack that was made by half."""
        if BACKEND.exists():
            self.initialise()
            text = self._read("state", "pull")
        else:
            text = self.state_file().read_text() if self.state_file().exists() else ""
        return [r for r in json.loads(text or "{}").get("resources", []) if r["mode"] == "managed" and r["instances"]]

    def variable(self, name: str, default: str) -> str:
        """A variable that was given, or else the root's own default, which no environment's file changes."""
        return self.variables.get(name, default)

    @property
    def region(self) -> str:
        """Where everything is, also before there are outputs."""
        return self.variable("region", "us-east-1")

    def state_file(self) -> Path:
        """Where the state lies until there is a bucket for it."""
        return ROOT / f"{self.name}.tfstate"

    def _read(self, *arguments: str) -> str:
        command = [str(self._binary), *arguments]
        answer = subprocess.run(command, cwd=ROOT, env=self._environment(), capture_output=True, text=True)
        if answer.returncode != 0:
            raise StackError(f"terraform {arguments[0]} failed: {answer.stderr.strip()}", self.log)
        return answer.stdout

    def _command(self, verb: str, extra: Sequence[str]) -> list[str]:
        variables = [f"-var={name}={value}" for name, value in self.variables.items()]
        return [
            str(self._binary), verb, "-input=false", f"-var-file={self.name}.tfvars", *self._state(), *variables, *extra,
        ]

    def _state(self) -> list[str]:
        return [] if BACKEND.exists() else [f"-state={self.state_file()}"]

    def _environment(self) -> dict[str, str]:
        kept = dict(os.environ)
        # A CLI configuration that is named but missing is an error to Terraform.
        if not Path(kept.get("TF_CLI_CONFIG_FILE", os.devnull)).is_file():
            kept.pop("TF_CLI_CONFIG_FILE", None)
        return kept | {"TF_DATA_DIR": str(self.folder / "data"), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}


def commit() -> str:
    """The tag of what would be built now: the commit, and a hash of what differs from it."""
    def git(*arguments: str) -> bytes:
        answer = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True)
        if answer.returncode != 0:
            raise StackError(f"git {arguments[0]} failed: images are named after the commit: {answer.stderr.decode().strip()}")
        return answer.stdout

    tag = git("rev-parse", "--short=12", "HEAD").decode().strip()
    changes = git("diff", "HEAD", "--binary")
    for file in git("ls-files", "--others", "--exclude-standard", "-z").split(b"\0"):
        path = REPOSITORY / file.decode()
        if file and path.is_file():
            changes += file + b"\0" + path.read_bytes()
    return f"{tag}-dirty-{hashlib.sha256(changes).hexdigest()[:12]}" if changes else tag
