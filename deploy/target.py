"""Runs Terraform for one environment, with its variables and its state."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from launcher import commands as tools
from launcher import terraform, terraform_binary
from launcher.errors import StackError
from launcher.layout import REPOSITORY, SHARED, TERRAFORM
from launcher.progress import Progress, Step

import refusals

BACKEND = "backend_override.tf"
"""Written into each root by `bootstrap-state`, never committed: with it the state lies in a bucket, without it in that folder."""

UNSAVED = "errored.tfstate"
"""Written by Terraform where it cannot store the state, as with credentials that have expired: the only trace of what was made."""
INTERRUPT_SECONDS = 1800
_QUIET = ("-no-color", "-parallelism=20")


def folder_of(name: str) -> Path:
    """Where an environment's log, build and memory lie."""
    return SHARED / "aws" / name


class Stack:
    """An environment (`dev`, `prod`) and the variables it is to have beside those of its file."""

    root = TERRAFORM / "aws"

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
        self._values: dict[str, Any] = {}

    def initialise(self) -> None:
        """terraform init, once."""
        if self._initialised:
            return
        options = [f"-backend-config=key={self.name}/terraform.tfstate", "-reconfigure"] if self.backend.exists() else []
        with self._progress.step("init") as step:
            terraform.initialise(
                self._binary, self.root, self.folder / "data", step, self.log, options=options, variables=self._environment()
            )
        self._initialised = True
        self._push_unsaved()

    def plan(self, extra: Sequence[str]) -> int:
        """Shows what an apply would change."""
        self.initialise()
        command = self._command("plan", [*extra, *([] if sys.stdout.isatty() else ["-no-color"])])
        child = subprocess.Popen(command, cwd=self.root, env=self._environment())
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.wait()  # the terminal has interrupted it, too, and it gives its lock back
            raise

    def apply(
        self, title: str, extra: Sequence[str], *, verb: str = "apply", timeout_seconds: float = 5400,
        accepted: Callable[[], None] | None = None,
    ) -> None:
        """Applies, or destroys, without a prompt. Calls `accepted` when Terraform has accepted all variables, before anything is created."""
        self.initialise()
        with self._progress.step(title) as step:
            command = self._command(verb, ["-auto-approve", *_QUIET, *extra])
            if accepted:
                planned = self.folder / "planned.tfplan"
                command = [str(self._binary), verb, "-input=false", *self._state(), *_QUIET, str(planned)]
            try:
                if accepted:
                    self._run(step, self._command("plan", [*_QUIET, f"-out={planned}", *extra]), "plan", timeout_seconds)
                    accepted()
                self._run(step, command, verb, timeout_seconds)
            finally:
                # It holds the values of all variables.
                (self.folder / "planned.tfplan").unlink(missing_ok=True)

    def values(self, *names: str, valid: bool = False) -> dict[str, Any]:
        """Variables as a deployment would have them: given, of the environment's file, or the root's defaults.

        With `valid`, it raises where the root refuses any variable.
        """
        missing = [name for name in names if name not in self._values]
        if missing:
            self._values |= self._evaluate(missing, valid)
        return {name: self._values[name] for name in names}

    def push_state(self, file: Path) -> None:
        """Makes a state file the current state."""
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
        if self.backend.exists():
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

    @property
    def backend(self) -> Path:
        """Says that the state lies in a bucket, where it is there."""
        return self.root / BACKEND

    def state_file(self) -> Path:
        """Where the state lies until there is a bucket for it."""
        return self.root / f"{self.name}.tfstate"

    def _evaluate(self, names: Sequence[str], valid: bool) -> dict[str, Any]:
        self.initialise()
        expression = f"jsonencode({{{', '.join(f'{name} = var.{name}' for name in names)}}})"
        command = [str(self._binary), "console", *self._files(), *self._state(), *self._given()]
        answer = subprocess.run(
            command, cwd=self.root, env=self._environment(), input=expression, capture_output=True, text=True
        )
        # It evaluates what the root refuses, too, says so, and ends well. The value is its last line.
        said = refusals.of_terraform(answer.stderr)
        if said and valid:
            raise StackError(f"the variables are refused: {said}")
        try:
            return json.loads(json.loads(answer.stdout.splitlines()[-1]))
        except (ValueError, IndexError):
            raise StackError(f"the variables cannot be evaluated: {said or answer.stderr.strip()}") from None

    def _run(self, step: Step, command: Sequence[str], verb: str, timeout_seconds: float) -> None:
        before = self.log.stat().st_size if self.log.exists() else 0
        try:
            tools.run(
                command, step=step, log=self.log, failure=f"terraform {verb} failed", timeout_seconds=timeout_seconds, cwd=self.root,
                environment=self._environment(), end=_interrupt,
            )
        except StackError as error:
            with open(self.log, errors="replace") as log:
                log.seek(before)
                said = refusals.of_terraform(log.read())
            raise (StackError(f"{error}: {said}\n  log: {self.log}") if said else error) from None
        finally:
            unsaved = self.root / UNSAVED
            if unsaved.exists():
                unsaved.replace(self.folder / UNSAVED)

    def _push_unsaved(self) -> None:
        """Terraform refuses a state that is not the successor of the stored one."""
        unsaved = self.folder / UNSAVED
        if unsaved.exists():
            if self.backend.exists():
                self._read("state", "push", str(unsaved))
                unsaved.unlink()
            else:
                stored = self.state_file()
                if stored.exists() and _lineage(stored) != _lineage(unsaved):
                    raise StackError(f"{unsaved} is the state of another deployment than {stored}: compare them, and remove it")
                unsaved.replace(stored)
            self._progress.line("the state of the last run, which could not be stored then, is stored now")

    def _read(self, *arguments: str) -> str:
        command = [str(self._binary), *arguments]
        answer = subprocess.run(command, cwd=self.root, env=self._environment(), capture_output=True, text=True)
        if answer.returncode != 0:
            raise StackError(f"terraform {arguments[0]} failed: {answer.stderr.strip()}", self.log)
        return answer.stdout

    def _command(self, verb: str, extra: Sequence[str]) -> list[str]:
        return [str(self._binary), verb, "-input=false", *self._files(), *self._state(), *self._given(), *extra]

    def _given(self) -> list[str]:
        return [f"-var={name}={value}" for name, value in self.variables.items()]

    def _files(self) -> list[str]:
        return [f"-var-file={self.name}.tfvars"]

    def _state(self) -> list[str]:
        return [] if self.backend.exists() else [f"-state={self.state_file()}"]

    def _environment(self) -> dict[str, str]:
        kept = dict(os.environ)
        # For Terraform, a CLI configuration that is named but missing is an error.
        if not Path(kept.get("TF_CLI_CONFIG_FILE", os.devnull)).is_file():
            kept.pop("TF_CLI_CONFIG_FILE", None)
        return kept | {"TF_DATA_DIR": str(self.folder / "data"), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}


class AccountSettings(Stack):
    """Settings of a whole account in one region, which outlive every environment."""

    root = TERRAFORM / "account"

    def __init__(self, account: str, region: str, variables: Mapping[str, str], progress: Progress) -> None:
        super().__init__(f"{account}-{region}", {**variables, "region": region}, progress)

    def _files(self) -> list[str]:
        return []


def _interrupt(child: subprocess.Popen) -> None:
    """Terraform finishes what it has begun and writes its state, which takes minutes: killed, it would forget what it was making.

    SIGINT, which its providers ignore; a second one has it give up at once.
    """
    print("\ninterrupted: Terraform finishes what it has begun and writes its state (Ctrl-C again: it may forget some)", file=sys.stderr)
    for seconds in (INTERRUPT_SECONDS, 30):
        try:
            child.send_signal(signal.SIGINT)
            child.wait(timeout=seconds)
            return
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


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


def _lineage(state: Path) -> str:
    """What all versions of one state have in common."""
    return json.loads(state.read_text()).get("lineage", "")
