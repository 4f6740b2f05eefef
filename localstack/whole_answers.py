"""An emulator extension: the head and the body of an answer leave in one write.

Hypercorn writes them one after the other. The Go SDK, which Terraform's provider calls with, now and then closes a
connection by mistake as the head of an answer arrives (https://github.com/aws/aws-sdk-go-v2/issues/2737). If the body
is still to come it then sends the request once more, and where that one creates something, `terraform apply` fails:
it exists already. Of eight applies on a busy machine one met this. A body that came with its head is read all the same.
"""

from __future__ import annotations

from typing import Any

import h11

import hooks


def verify(protocol: Any) -> None:
    """Raises `UnsupportedEmulator` unless the function that is replaced is as this module knows it."""
    hooks.require_function(protocol, "_send_h11_event", ["self", "event"])


def install() -> None:
    """Replaces how the installed MiniStack's server writes."""
    from hypercorn.protocol.h11 import H11Protocol

    hooks.require_version(hooks.installed_version())
    verify(H11Protocol)
    H11Protocol._send_h11_event = _send_h11_event


async def _send_h11_event(self: Any, event: Any) -> None:
    """Keeps the head for what follows it: the body, or the end of an answer without one."""
    from hypercorn.events import RawData

    try:
        data = self.connection.send(event)
    except h11.LocalProtocolError:
        if self.connection.their_state is not h11.ERROR:
            raise
        return
    if isinstance(event, h11.Response):
        self.kept_head = data
        return
    head, self.kept_head = getattr(self, "kept_head", b""), b""
    await self.send(RawData(data=head + data))
