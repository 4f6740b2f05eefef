"""A resource of a request, with what is known of it beyond its ARN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One more permission that a request needs: an action of another service on behalf of the caller."""

    action: str
    resource: str
    context: dict[str, Any] = field(default_factory=dict)


class Resource(str):
    """An ARN that carries condition keys of its own, further resources of the same action, and further checks.

    MiniStack hands ARNs on as plain strings: a subclass passes through it unchanged."""

    keys: dict[str, Any]
    more: tuple["Resource", ...]
    checks: tuple[Check, ...]

    def __new__(
        cls, arn: str, keys: dict[str, Any] | None = None, more: tuple["Resource", ...] = (), checks: tuple[Check, ...] = ()
    ) -> "Resource":
        made = super().__new__(cls, arn)
        made.keys, made.more, made.checks = keys or {}, more, checks
        return made
