"""The pinned emulator, and the check that an extension still fits it. The extensions hook private functions of
MiniStack, so they refuse any version but this one, and any function that is not as they know it."""

from __future__ import annotations

import importlib.metadata
import inspect
from types import ModuleType

PINNED_VERSION = "1.5.33"


class UnsupportedEmulator(RuntimeError):
    """The installed MiniStack is not the one that the extensions were written for."""


def installed_version() -> str:
    """The version of MiniStack in this environment."""
    return importlib.metadata.version("ministack")


def require_version(installed: str) -> None:
    """Raises `UnsupportedEmulator` for any version but the pinned one."""
    if installed != PINNED_VERSION:
        raise UnsupportedEmulator(
            f"MiniStack {installed} is installed, but the extensions hook {PINNED_VERSION}: "
            "install localstack/requirements.txt, or adapt the extensions and the pinned version together"
        )


def require_function(module: ModuleType, name: str, parameters: list[str]) -> None:
    """Raises `UnsupportedEmulator` unless the module has this function with these parameters."""
    function = getattr(module, name, None)
    if not callable(function) or list(inspect.signature(function).parameters) != parameters:
        raise UnsupportedEmulator(
            f"MiniStack has no {module.__name__}.{name}({', '.join(parameters)}) any more: adapt the extension that hooks it"
        )
