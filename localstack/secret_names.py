"""The emulator extension: an ARN without its last six characters names the secret of exactly that name.

MiniStack takes the first secret whose ARN begins so: `...:secret:pay` is then `pay-stripe`, if that was made first.

It hooks a private function of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable

import hooks

ARN_SUFFIX = 7
"""A hyphen and six characters."""

Found = tuple[Any, dict[str, Any] | None]


def verify(secretsmanager: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked is as this module knows it."""
    hooks.require_function(secretsmanager, "_resolve", ["secret_id", "use_arn_scope"])


def install() -> None:
    """Hooks the installed MiniStack."""
    from ministack.services import secretsmanager

    hooks.require_version(hooks.installed_version())
    verify(secretsmanager)
    secretsmanager._resolve = _exactly(secretsmanager, secretsmanager._resolve)


def _exactly(secretsmanager: ModuleType, original: Callable[..., Found]) -> Callable[..., Found]:
    @functools.wraps(original)
    def resolve(secret_id: str, *, use_arn_scope: bool = False) -> Found:
        key, found = original(secret_id, use_arn_scope=use_arn_scope)
        if found is None or not secret_id.startswith("arn:") or secret_id in (found["ARN"], found["ARN"][:-ARN_SUFFIX]):
            return key, found
        named = ((key, one) for key, one in secretsmanager._secrets.items() if one["ARN"][:-ARN_SUFFIX] == secret_id)
        return next(named, (None, None))

    return resolve
