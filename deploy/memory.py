"""The variables that an environment was deployed with, kept beside its log: later commands plan the same stack with them.

Nothing secret is kept: a variable that the root marks as sensitive is left out and must be given each time.
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
# The tool sets it by itself, to another version each time.
NOT_KEPT = {"image_tag"}
_SENSITIVE = re.compile(r'^variable "([^"]+)" \{\n(?:(?!\}).*\n)*?\s+sensitive\s*=\s*true', re.MULTILINE)

# A string in quotes, white space, or one other character.
_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|\s+|.', re.DOTALL)
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*=", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Memory:
    """What is remembered of the last deployment, whether it succeeded or not."""

    account: str
    variables: dict[str, str]
    destroyed: bool = False
    """Destroyed since. It still says where to search for leftovers; a new deployment does not use it."""
    ran: tuple[str, ...] = ()
    """Versions that were deployed with success, each once, the last one last."""

    def with_version(self, tag: str) -> Memory:
        """The memory after a successful deployment of this version."""
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
    """Writes the file in one step, readable by the owner only."""
    unkept = NOT_KEPT | sensitive((TERRAFORM / "aws" / "variables.tf").read_text())
    kept = {name: value for name, value in memory.variables.items() if name not in unkept}
    draft = folder / f"{FILE}.draft"
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(dataclasses.asdict(dataclasses.replace(memory, variables=kept)), file, indent=2)
        file.write("\n")
    os.replace(draft, folder / FILE)


def merge(remembered: Mapping[str, str], given: Sequence[str]) -> dict[str, str]:
    """Merges remembered and given variables; given ones take precedence. `NAME=` forgets one, so that the root's default applies."""
    merged = dict(remembered)
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise StackError(f"{text!r} is not a variable: write NAME=VALUE, or NAME= for its default")
        merged[name] = value
    return {name: value for name, value in merged.items() if value}


def split(text: str) -> list[str]:
    """The variables in the Makefile's VARS: `NAME=VALUE`, separated by white space.

    White space in quotes or brackets belongs to the value. Raises where a value has other white space, or does not end.
    """
    variables, word, open_brackets = [], "", []
    for part in _PARTS.findall(text):
        if part.isspace() and not open_brackets:
            variables.append(word)
            word = ""
            continue
        if part in _CLOSING:
            open_brackets.append(_CLOSING[part])
        elif part == '"':
            raise StackError(f"VARS: a quote (\") in {word + part!r} is not closed")
        elif part in _CLOSING.values() and (not open_brackets or open_brackets.pop() != part):
            raise StackError(f"VARS: the bracket {part} in {word + part!r} closes none")
        word += part
    if open_brackets:
        raise StackError(f"VARS: {word!r} ends before its {open_brackets[-1]}")
    variables = [variable for variable in [*variables, word] if variable]
    for variable in variables:
        if not _VARIABLE.match(variable):
            raise StackError(
                f"VARS: {variable!r} is not NAME=VALUE. A value with spaces outside of quotes and brackets needs deploy.py's own option "
                "(python3 deploy/deploy.py COMMAND --env ENV --var 'NAME=VALUE') or the environment's .tfvars file"
            )
    return variables


def sensitive(declarations: str) -> set[str]:
    """Names of the variables that a `variables.tf` calls sensitive."""
    return set(_SENSITIVE.findall(declarations))
