"""Records who called what, and what was denied, in bounded memory. Serves it to people (`make local-why`) and tests."""

from __future__ import annotations

import collections
import json
import logging
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable

logger = logging.getLogger("iam_enforcement")

PATH = "/_tagged-config/iam"
"""The path at which the emulator serves the journal: GET shows it, DELETE clears it."""
MOST_CALLS = 5_000
MOST_DENIALS = 200


@dataclass(frozen=True)
class Call:
    """A principal's use of an action on a resource."""

    principal: str
    action: str
    resource: str


class Journal:
    """The calls that were allowed, each kind once with its number, and the last denials."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: collections.Counter[Call] = collections.Counter()
        self._denials: collections.deque[dict] = collections.deque(maxlen=MOST_DENIALS)

    def allowed(self, call: Call) -> None:
        """Counts a call. Beyond `MOST_CALLS` kinds, only known ones are counted."""
        with self._lock:
            if call in self._calls or len(self._calls) < MOST_CALLS:
                self._calls[call] += 1

    def denied(self, call: Call, reason: str) -> None:
        """Notes a denial, and logs it: some callers are inside the emulator, and have no log of their own."""
        logger.warning("denied: %s may not %s on %s %s", call.principal, call.action, call.resource, reason)
        self._note(asdict(call) | {"reason": reason})

    def refused(self, access_key_id: str, action: str, code: str) -> None:
        """Notes a call with unknown credentials."""
        logger.warning("refused: %s with access key %s: %s", action, access_key_id or "(none)", code)
        self._note({"principal": f"access key {access_key_id or '(none)'}", "action": action, "resource": "", "reason": code})

    def _note(self, denial: dict) -> None:
        with self._lock:
            self._denials.append({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **denial})

    def served(self, original: Callable) -> Callable:
        """Adds `PATH` to what MiniStack answers before it selects a service."""

        async def handle(path: str, method: str, body: bytes) -> Any:
            if path != PATH:
                return await original(path, method, body)
            if method == "DELETE":
                self._clear()
            elif method != "GET":
                return 405, {"Content-Type": "application/json", "Allow": "GET, DELETE"}, b'{"message": "use GET or DELETE"}'
            return 200, {"Content-Type": "application/json"}, json.dumps(self._report()).encode()

        return handle

    def _clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._denials.clear()

    def _report(self) -> dict:
        with self._lock:
            return {
                "calls": [asdict(call) | {"count": count} for call, count in sorted(
                    self._calls.items(), key=lambda item: (item[0].principal, item[0].action, item[0].resource))],
                "denials": list(self._denials),
            }
