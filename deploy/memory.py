"""The variables that an environment was deployed with, kept beside its log: later commands are to plan the same stack.

Nothing secret is kept: a variable that the root calls sensitive is left out and has to be given each time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Mapping, Sequence

from launcher.errors import StackError
from launcher.layout import TERRAFORM

FILE = "deployed.json"
MOST_VERSIONS = 30
# The tool sets it by itself: the version is another one each time.
NOT_KEPT = {"image_tag"}
_SENSITIVE = re.compile(r'^variable "([^"]+)" \{\n(?:(?!\}).*\n)*?\s+sensitive\s*=\s*true', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Of the last deployment, whether it succeeded or not."""

    account: str
    variables: dict[str, str]
    destroyed: bool = False
    """Destroyed since: still needed to look for what is left, but a new deployment begins afresh."""
    ran: tuple[str, ...] = ()
    """Versions that were deployed with success, each once, the last one last."""

    def with_version(self, tag: str) -> Memory:
        """After a success of this version."""
        ran = (*(one for one in self.ran if one != tag), tag)[-MOST_VERSIONS:]
        return dataclasses.replace(self, ran=ran)

    def before(self, tag: str) -> str | None:
        """The version that ran last before this one."""
        return next((one for one in reversed(self.ran) if one != tag), None)


def recall(folder: Path) -> Memory | None:
    """What is remembered of the environment with this folder."""
    file = folder / FILE
    try:
        fields = json.loads(file.read_text())
        return Memory(**fields | {"ran": tuple(fields.get("ran", ()))})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise StackError(f"{file} cannot be read ({error}): remove it, and give the VARS that were deployed with") from error


def remember(folder: Path, memory: Memory) -> None:
    """Writes in one step, for the owner's eyes only."""
    unkept = NOT_KEPT | sensitive((TERRAFORM / "aws" / "variables.tf").read_text())
    kept = {name: value for name, value in memory.variables.items() if name not in unkept}
    draft = folder / f"{FILE}.draft"
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(dataclasses.asdict(dataclasses.replace(memory, variables=kept)), file, indent=2)
        file.write("\n")
    os.replace(draft, folder / FILE)


def merge(remembered: Mapping[str, str], given: Sequence[str]) -> dict[str, str]:
    """What is given comes first; `NAME=` forgets what is remembered, so that the root's own default is back."""
    merged = dict(remembered)
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise StackError(f"{text!r} is not a variable: write NAME=VALUE, or NAME= for its default")
        merged[name] = value
    return {name: value for name, value in merged.items() if value}


def sensitive(declarations: str) -> set[str]:
    """Names of the variables that a `variables.tf` calls sensitive."""
    return set(_SENSITIVE.findall(declarations))
