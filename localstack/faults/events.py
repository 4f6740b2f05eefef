"""Faults between a table's stream and the invalidator, and invocations that fail.

MiniStack's one poller thread reads a batch, invokes the function, and goes on to the next batch when the answer is
not an error; after an error it reads the same batch again a second later, without end. An answer
without an invocation therefore drops a batch, and a wait before the invocation holds the stream. Both keep the order.
"""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Callable

from .control import Control
from .document import EventFaults

logger = logging.getLogger("faults")

REORDER_SECONDS = 1.0
"""How long a batch waits for the one that is to overtake it. After that it is delivered in order."""
RETRY_SECONDS = 1.0
"""As MiniStack's poller."""
MOST_RETRIES = 60

HANDLED = {"body": None, "log": ""}
FAILED = {
    "body": {"errorType": "Runtime.ExitError", "errorMessage": "an injected fault"},
    "error": True,
    "function_error": "Unhandled",
    "log": "",
}

Run = Callable[[dict], dict]
"""Invokes the function with an event."""


@dataclass(frozen=True)
class _Overtaken:
    """A batch that waits for the next one to pass, and how to deliver it."""

    event: dict
    run: Run


class Invocations:
    """Stands before every Lambda invocation, whatever caused it."""

    def __init__(self, original: Callable[..., dict], control: Control) -> None:
        self._original = original
        self._control = control
        self._overtaken: _Overtaken | None = None
        self._in_order = threading.Lock()

    def invoke(self, func: dict, config: dict, event: dict, request_id: str, started: float) -> dict:
        """Replaces `lambda_svc._execute_function_dispatch`."""
        if self._control.plan is None and self._overtaken is None:
            return self._original(func, config, event, request_id, started)

        def run(sent: dict) -> dict:
            # Read again: a late delivery is subject to the faults that are set when it arrives.
            plan = self._control.plan
            if plan and plan.hits("invalidator.fail", plan.faults.invalidator_fail):
                self._control.count("invalidator.failed")
                return FAILED
            return self._original(func, config, sent, request_id if sent is event else str(uuid.uuid4()), time.time())

        if not _is_stream_batch(event):
            return run(event)
        with self._in_order:
            return self._deliver(event, run)

    def _deliver(self, event: dict, run: Run) -> dict:
        kind = "events.dynamodb"
        plan = self._control.plan
        faults = plan.faults.events["dynamodb"] if plan else EventFaults()

        def hits(what: str, share: float) -> bool:
            return plan is not None and plan.hits(f"{kind}.{what}", share)

        all_records = event["Records"]
        records = [record for record in all_records if not hits("drop", faults.drop)]
        if len(records) < len(all_records):
            self._control.count(f"{kind}.dropped", len(all_records) - len(records))
            if not records:
                return HANDLED
            event = {**event, "Records": records}

        if plan and hits("delay", faults.delay):
            self._control.count(f"{kind}.delayed", len(records))
            self._wait(plan.seconds(f"{kind}.delay_ms", faults.delay_ms))

        earlier, self._overtaken = self._overtaken, None
        if earlier is None and hits("reorder", faults.reorder):
            self._let_next_pass(_Overtaken(event, run))
            return HANDLED
        if earlier and _items(earlier.event) & _items(event):
            self._until_handled(earlier)
            earlier = None
        result = run(event)
        if result.get("error"):
            self._overtaken = earlier
            return result
        if earlier:
            self._control.count(f"{kind}.reordered", len(earlier.event["Records"]))
            self._until_handled(earlier)
        if plan and hits("duplicate", faults.duplicate):
            self._control.count(f"{kind}.duplicated", len(records))
            self._control.hold(1)
            self._later(plan.seconds(f"{kind}.duplicate_ms", faults.delay_ms), lambda: self._repeat(event, run))
        return result

    def _let_next_pass(self, batch: _Overtaken) -> None:
        def give_up() -> None:
            with self._in_order:
                if self._overtaken is batch:
                    self._overtaken = None
                    self._until_handled(batch)

        self._overtaken = batch
        self._control.hold(1)
        self._later(REORDER_SECONDS, give_up)

    def _until_handled(self, batch: _Overtaken) -> None:
        """Retries as the poller would: for the poller, this batch is done with."""
        try:
            for _ in range(MOST_RETRIES):
                if not batch.run(batch.event).get("error"):
                    return
                self._control.released.wait(RETRY_SECONDS)
            logger.error("gave up on a batch of %d records", len(batch.event["Records"]))
        finally:
            self._control.hold(-1)

    def _wait(self, seconds: float) -> None:
        self._control.hold(1)
        self._control.released.wait(seconds)
        self._control.hold(-1)

    def _repeat(self, event: dict, run: Run) -> None:
        try:
            run(event)
        finally:
            self._control.hold(-1)

    def _later(self, seconds: float, deliver: Callable[[], Any]) -> None:
        """Delivers on a thread of its own, in the caller's account and region."""
        released = self._control.released

        def wait() -> None:
            try:
                released.wait(seconds)
                deliver()
            except Exception:  # a failed delivery must not end the emulator
                logger.exception("could not deliver a batch that was held back")

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(wait,), name="faults", daemon=True).start()


def _is_stream_batch(event: Any) -> bool:
    records = event.get("Records") if isinstance(event, dict) else None
    return bool(records) and isinstance(records, list) and all(
        isinstance(record, dict) and record.get("eventSource") == "aws:dynamodb" for record in records
    )


def _items(event: dict) -> set[tuple[str, str]]:
    """The items that a batch is about: a stream keeps the order of the changes of one item."""
    return {
        (record.get("eventSourceARN", ""), json.dumps(record.get("dynamodb", {}).get("Keys"), sort_keys=True))
        for record in event["Records"]
    }
