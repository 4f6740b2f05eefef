"""Makes every task of config-service drop its cache. It is needed when versions went backwards, as after a restore."""

from __future__ import annotations

import json
from typing import Any, Callable

from launcher.errors import StackError

from invalidator import CallFailed, Invalidator, excerpt


def run(invalidator: Invalidator, say: Callable[[str], None] = print) -> int:
    """Raises if a task did not flush and will not flush later."""
    try:
        targets, acknowledged = counts(invalidator.call({"flush": True}))
    except CallFailed as error:
        raise StackError(f"not flushed: {error}") from None
    say(f"{invalidator.env}: {acknowledged} of {targets} tasks flushed: they read everything anew")
    rest = targets - acknowledged
    if rest > 0:
        if not invalidator.has_journal():
            raise StackError(f"not reached: {rest}; and there is no journal that they could read: run it again")
        say(f"not reached: {rest}; the rest flush at their next sweep of the journal")
    return 0


def counts(answer: Any) -> tuple[int, int]:
    """The number of tasks, and of those that flushed."""
    try:
        flushed = answer["flushed"]
        targets, acknowledged = flushed["targets"], flushed["acknowledged"]
    except (TypeError, KeyError):
        targets = acknowledged = None
    if not (_is_count(targets) and _is_count(acknowledged)):
        raise CallFailed(f"an unexpected answer, {excerpt(json.dumps(answer))} (does this version know a flush?)")
    return targets, acknowledged


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
