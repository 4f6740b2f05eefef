"""An emulator extension: a connection of Terraform's ends after one answer.

The AWS provider (5.100) now and then gives up a connection that it uses again within milliseconds: it closes it when
it has sent the next request, and sends that once more on another one, after the first was carried out. In a busy apply
that happened to one request in some 3,000, and where that one created something, the second creation failed as a
duplicate. On a connection of its own no request meets this.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Awaitable, Callable

import hooks

USER_AGENT = b"Terraform/"

Asgi = Callable[[dict, Callable, Callable], Awaitable[None]]


def verify(app: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless the application that is wrapped is as this module knows it."""
    hooks.require_function(app, "app", ["scope", "receive", "send"])


def install() -> None:
    """Wraps the application of the installed MiniStack. Call it before `main()`, which serves it."""
    from ministack import app

    hooks.require_version(hooks.installed_version())
    verify(app)
    app.app = closing(app.app)


def closing(app: Asgi) -> Asgi:
    """The application, with `Connection: close` in what it answers Terraform."""

    async def wrapped(scope: dict, receive: Callable, send: Callable) -> None:
        async def send_last(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        agent = dict(scope.get("headers", [])).get(b"user-agent", b"")
        await app(scope, receive, send_last if scope["type"] == "http" and USER_AGENT in agent else send)

    return wrapped
