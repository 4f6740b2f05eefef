"""The faults that are set, the dice that decide each case, the counters of what happened, and the HTTP endpoint for all three."""

from __future__ import annotations

import collections
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Iterable

from .document import BadDocument, Faults, Range, SERVICES, SOURCES, parse

if TYPE_CHECKING:
    from parameter_events import EventPublisher, ParameterEvent

COUNTERS = (
    *(f"events.{source}.{what}" for source in SOURCES for what in ("dropped", "delayed", "duplicated", "reordered")),
    "invalidator.failed",
    *(f"calls.{service}.{what}" for service in SERVICES for what in ("throttled", "failed", "slowed", "refused")),
    "stale_reads.ssm.answered",
)


class Plan:
    """The faults of one document, and their dice: a generator for each kind, so that decisions
    of one kind do not affect another. The n-th decision of a kind depends on the seed alone."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._lock = threading.Lock()
        self._generators: dict[str, random.Random] = {}

    def hits(self, kind: str, share: float) -> bool:
        """Whether this case of a kind is one of the share."""
        return bool(share) and self._roll(kind) < share

    def seconds(self, kind: str, milliseconds: Range) -> float:
        """A random time in a range."""
        shortest, longest = milliseconds
        return (shortest + self._roll(kind) * (longest - shortest)) / 1000

    def _roll(self, kind: str) -> float:
        with self._lock:
            if kind not in self._generators:
                self._generators[kind] = random.Random(f"{self.faults.seed}:{kind}")
            return self._generators[kind].random()


class Control:
    """The faults that are set now. `plan` is None when there are none."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.publisher: EventPublisher | None = None
        self.released = threading.Event()
        """Set once the faults are cleared that hold something back now; each clearing starts a new one."""
        self._document: dict = {}
        self._counts: collections.Counter[str] = collections.Counter()
        self._held = 0
        self._lock = threading.Lock()
        self._latest_delivery = 0.0

    def count(self, counter: str, by: int = 1) -> None:
        """Adds to one of `COUNTERS`."""
        with self._lock:
            self._counts[counter] += by

    def hold(self, change: int) -> None:
        """Counts stream batches that wait for their time: 1 when one begins to, -1 when it ends."""
        with self._lock:
            self._held += change

    def answer(self, method: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answers one request to the endpoint."""
        if method == "PUT":
            try:
                document = json.loads(body)
                faults = parse(document)
            except BadDocument as error:
                return _json(400, {"message": str(error)})
            except ValueError:
                return _json(400, {"message": "the body must be a JSON document"})
            self._document, self.plan = document, Plan(faults)
        elif method == "DELETE":
            self._clear()
        elif method != "GET":
            status, headers, text = _json(405, {"message": "use PUT, GET or DELETE"})
            return status, {**headers, "Allow": "PUT, GET, DELETE"}, text
        return _json(200, self._report())

    def deliveries(self, event: ParameterEvent) -> Iterable[float]:
        """`parameter_events.DeliveryPolicy`: once and at once, unless a fault says otherwise."""
        plan = self.plan
        if plan is None:
            return (0.0,)
        source = "events.parameter-store"
        faults = plan.faults.events["parameter-store"]
        if plan.hits(f"{source}.drop", faults.drop):
            self.count(f"{source}.dropped")
            return ()
        delays = [0.0]
        if plan.hits(f"{source}.delay", faults.delay):
            delays = [plan.seconds(f"{source}.delay_ms", faults.delay_ms)]
            self.count(f"{source}.delayed")
        if plan.hits(f"{source}.duplicate", faults.duplicate):
            delays.append(plan.seconds(f"{source}.duplicate_ms", faults.delay_ms))
            self.count(f"{source}.duplicated")
        delivery = time.monotonic() + delays[0]
        if delivery < self._latest_delivery:
            self.count(f"{source}.reordered")
        self._latest_delivery = max(self._latest_delivery, delivery)
        return delays

    def _clear(self) -> None:
        self._document, self.plan = {}, None
        released, self.released = self.released, threading.Event()
        released.set()
        self._latest_delivery = 0.0
        if self.publisher:
            self.publisher.release()

    def _report(self) -> dict[str, Any]:
        counters: dict[str, Any] = {}
        with self._lock:
            for name in COUNTERS:
                *path, last = name.split(".")
                place = counters
                for part in path:
                    place = place.setdefault(part, {})
                place[last] = self._counts[name]
            held = self._held
        waiting = self.publisher.waiting if self.publisher else 0
        return {
            "faults": self._document,
            "counters": counters,
            "held": {"parameter-store": waiting, "dynamodb": held},
        }


def _json(status: int, content: dict) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()
