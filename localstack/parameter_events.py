"""The emulator extension: Parameter Store changes become EventBridge events, as on AWS.

MiniStack publishes none, so this module wraps the functions of its SSM service that change a parameter and
publishes, after each change that succeeded, the event that AWS documents
(https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-cwe.html):
source `aws.ssm`, detail type `Parameter Store Change`, the parameter's ARN as the only resource, and the detail
`operation`, `name`, `type` and, where there is one, `description`. Never a value or a version: AWS sends neither.

It hooks private functions of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import contextvars
import functools
import heapq
import itertools
import json
import logging
import threading
import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Callable, Iterable, Protocol

import hooks

logger = logging.getLogger("parameter_events")

Handler = Callable[[dict], tuple]
"""A handler of MiniStack's SSM service: the request's JSON in, (status, headers, body) out."""


@dataclass(frozen=True)
class ParameterEvent:
    """One `Parameter Store Change`, before it is published."""

    operation: str
    name: str
    type: str
    arn: str
    description: str = ""

    def entry(self) -> dict[str, Any]:
        """The event as an entry of EventBridge's PutEvents."""
        detail = {"operation": self.operation, "name": self.name, "type": self.type}
        if self.description:
            detail["description"] = self.description
        return {
            "Source": "aws.ssm",
            "DetailType": "Parameter Store Change",
            "Resources": [self.arn],
            "Detail": json.dumps(detail),
        }


class Event(Protocol):
    """What an `EventPublisher` publishes."""

    @property
    def operation(self) -> str: ...

    @property
    def name(self) -> str: ...

    def entry(self) -> dict[str, Any]:
        """The event as an entry of EventBridge's PutEvents."""


DeliveryPolicy = Callable[[Event], Iterable[float]]
"""When to deliver an event: one delay in seconds per delivery. `()` drops the event, `(0, 0)` duplicates it, and a
longer delay than the next event's reorders them. This is where a fault suite hooks in."""


def deliver_once(_event: Event) -> Iterable[float]:
    """The default policy: every event once, at once, in order."""
    return (0.0,)


class EventPublisher:
    """Publishes events on a thread of its own, so that no caller waits for a rule's targets.

    One thread and a queue ordered by due time: without a policy's delays, events leave in the order of the changes.
    The caller's account and region (context variables of MiniStack) travel with each event.
    """

    def __init__(self, put_events: Callable[..., Any], policy: DeliveryPolicy = deliver_once) -> None:
        self.policy = policy
        self._put_events = put_events
        self._due: list[tuple[float, int, contextvars.Context, Event]] = []
        self._sequence = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="parameter-events", daemon=True).start()

    def publish(self, event: Event) -> None:
        """Queues the deliveries that the policy requires."""
        now = time.monotonic()
        with self._changed:
            for delay in self.policy(event):
                item = (now + delay, next(self._sequence), contextvars.copy_context(), event)
                heapq.heappush(self._due, item)
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """How many deliveries wait for their time."""
        with self._changed:
            return len(self._due)

    def release(self) -> None:
        """Delivers at once, in the order of the changes, whatever a policy holds back."""
        now = time.monotonic()
        with self._changed:
            self._due = [(min(due, now), *rest) for due, *rest in self._due]
            heapq.heapify(self._due)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            context, event = self._next()
            try:
                context.run(self._put_events, {"Entries": [event.entry()]}, allow_aws_source=True)
            except Exception:  # a failed event must not end the emulator
                logger.exception("could not publish %s of %s", event.operation, event.name)

    def _next(self) -> tuple[contextvars.Context, Event]:
        with self._changed:
            while True:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    _, _, context, event = heapq.heappop(self._due)
                    return context, event
                self._changed.wait(wait)


def verify(ssm: ModuleType, eventbridge: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked or called is as this module knows it."""
    for name in ("_put_parameter", "_delete_parameter", "_delete_parameters", "_label_parameter_version"):
        hooks.require_function(ssm, name, ["data"])
    hooks.require_function(ssm, "_lookup_parameter", ["name_or_arn", "allow_arn_region", "flexible_name"])
    hooks.require_function(eventbridge, "_put_events", ["data", "allow_aws_source"])


def install(policy: DeliveryPolicy = deliver_once) -> EventPublisher:
    """Hooks the installed MiniStack. Call it before the emulator serves its first request."""
    from ministack.services import eventbridge, ssm

    hooks.require_version(hooks.installed_version())
    verify(ssm, eventbridge)
    publisher = EventPublisher(eventbridge._put_events, policy)
    ssm._put_parameter = _publishing_put(ssm, publisher)
    ssm._delete_parameter = _publishing_delete(ssm, publisher)
    ssm._delete_parameters = _publishing_delete_many(ssm, publisher)
    ssm._label_parameter_version = _publishing_label(ssm, publisher)
    return publisher


def _publishing_put(ssm: ModuleType, publisher: EventPublisher) -> Handler:
    original: Handler = ssm._put_parameter

    @functools.wraps(original)
    def put_parameter(data: dict) -> tuple:
        existed = _find(ssm, data.get("Name")) is not None
        response = original(data)
        if _succeeded(response):
            _publish(publisher, "Update" if existed else "Create", _find(ssm, data.get("Name")))
        return response

    return put_parameter


def _publishing_delete(ssm: ModuleType, publisher: EventPublisher) -> Handler:
    original: Handler = ssm._delete_parameter

    @functools.wraps(original)
    def delete_parameter(data: dict) -> tuple:
        deleted = _find(ssm, data.get("Name"))
        response = original(data)
        if _succeeded(response):
            _publish(publisher, "Delete", deleted)
        return response

    return delete_parameter


def _publishing_delete_many(ssm: ModuleType, publisher: EventPublisher) -> Handler:
    original: Handler = ssm._delete_parameters

    @functools.wraps(original)
    def delete_parameters(data: dict) -> tuple:
        before = {name: _find(ssm, name) for name in data.get("Names", [])}
        response = original(data)
        if _succeeded(response):
            for name in json.loads(response[2])["DeletedParameters"]:
                _publish(publisher, "Delete", before[name])
        return response

    return delete_parameters


def _publishing_label(ssm: ModuleType, publisher: EventPublisher) -> Handler:
    original: Handler = ssm._label_parameter_version

    @functools.wraps(original)
    def label_parameter_version(data: dict) -> tuple:
        response = original(data)
        if _succeeded(response):
            _publish(publisher, "LabelParameterVersion", _find(ssm, data.get("Name")))
        return response

    return label_parameter_version


def _publish(publisher: EventPublisher, operation: str, record: dict | None) -> None:
    if record is None:
        return
    publisher.publish(
        ParameterEvent(
            operation=operation,
            name=record["Name"],
            type=record["Type"],
            arn=record["ARN"],
            description=record.get("Description") or "",
        )
    )


def _find(ssm: ModuleType, name: Any) -> dict | None:
    """The stored parameter of that exact name in the caller's account and region."""
    return ssm._lookup_parameter(name)[1] if isinstance(name, str) else None


def _succeeded(response: tuple) -> bool:
    return response[0] == 200
