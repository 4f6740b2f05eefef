"""Policy variables (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html), in the
resources and the conditions of a statement."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class _Unresolved(Exception):
    """A variable has no value in this request, and no default."""


def filled_in(first_match: Callable, resolve: Callable[[str, Any], Any]) -> Callable:
    """Wraps MiniStack's search for a matching statement: variables are replaced by the request's values first.

    A statement with a variable that has no value allows nothing. A Deny with such a variable denies: a caller
    cannot avoid it by leaving out the key that it compares with."""

    def _first_match(ctx: Any, stmts: list, effect: str) -> Any:
        kept = []
        for statement in stmts:
            if "${" not in repr((statement.resources, statement.not_resources, statement.conditions)):
                kept.append(statement)
                continue
            try:
                kept.append(_filled(statement, lambda key: resolve(key, ctx)))
            except _Unresolved:
                if statement.effect == "Deny":
                    kept.append(dataclasses.replace(statement, resources=["*"], not_resources=[], conditions={}))
        return first_match(ctx, kept, effect)

    return _first_match


def _filled(statement: Any, value_of: Callable[[str], Any]) -> Any:
    def text(written: str) -> str:
        return _VARIABLE.sub(lambda match: _value(match[1], value_of), written)

    def texts(written: Any) -> list[str]:
        return [text(str(one)) for one in (written if isinstance(written, list) else [written])]

    return dataclasses.replace(
        statement,
        resources=texts(statement.resources),
        not_resources=texts(statement.not_resources),
        conditions={
            operator: {key: texts(values) for key, values in block.items()} for operator, block in statement.conditions.items()
        },
    )


def _value(variable: str, value_of: Callable[[str], Any]) -> str:
    key, comma, default = variable.partition(",")
    key = key.strip()
    if key in ("*", "?", "$"):
        return key
    found = value_of(key)
    if isinstance(found, str):
        return found
    if comma:
        return default.strip().strip("'")
    raise _Unresolved(key)
