"""A resource of a request, with its condition keys and further checks beyond its ARN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One more permission that a request needs: another action, often of another service on behalf of the caller."""

    action: str
    resource: str
    context: dict[str, Any] = field(default_factory=dict)
    is_known: bool = True
    """Whether the request names the resource. What it does not name cannot be checked."""


class Resource(str):
    """An ARN that carries condition keys of its own, further resources of the same action, and further checks.

    MiniStack hands ARNs on as plain strings: a subclass passes through it unchanged."""

    keys: dict[str, Any]
    more: tuple["Resource", ...]
    checks: tuple[Check, ...]
    is_known: bool

    def __new__(
        cls,
        arn: str,
        keys: dict[str, Any] | None = None,
        more: tuple["Resource", ...] = (),
        checks: tuple[Check, ...] = (),
        is_known: bool = True,
    ) -> "Resource":
        made = super().__new__(cls, arn)
        made.keys, made.more, made.checks, made.is_known = keys or {}, more, checks, is_known
        return made
