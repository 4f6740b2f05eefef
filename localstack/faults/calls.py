"""Faults that a client of a store sees in its answers: Parameter Store, DynamoDB, S3 or Secrets Manager.

They apply at the emulator's HTTP port, so that the emulator's own reads (its stream poller, its event rules) never meet
them. The access key id that a client signs with identifies it. Of S3, they are about requests with the bucket in their path.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import functools
import json
import threading
import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Callable, Iterable
from xml.sax.saxutils import escape

from .control import Control, Plan
from .document import MOST_MILLISECONDS

_TARGETS = {"AmazonSSM": "ssm", "DynamoDB_20120810": "dynamodb", "secretsmanager": "secretsmanager"}
"""The service by the first half of a call's `X-Amz-Target`."""

_CONTENT_TYPES = {
    "ssm": "application/x-amz-json-1.1", "dynamodb": "application/x-amz-json-1.0", "secretsmanager": "application/x-amz-json-1.1",
}
"""Of services that answer in JSON."""
_THROTTLED = {
    "ssm": (400, "ThrottlingException", "Rate exceeded"),
    "dynamodb": (
        400,
        "com.amazon.coral.availability#ThrottlingException",
        "Rate of requests exceeds the allowed throughput.",
    ),
    "s3": (503, "SlowDown", "Please reduce your request rate."),
    "secretsmanager": (400, "ThrottlingException", "Rate exceeded"),
}
_FAILED = {
    "ssm": (500, "InternalServerError", "An error occurred on the server side."),
    "dynamodb": (
        500,
        "com.amazonaws.dynamodb.v20120810#InternalServerError",
        "The request processing has failed because of an unknown error, exception or failure.",
    ),
    "s3": (500, "InternalError", "We encountered an internal error. Please try again."),
    "secretsmanager": (500, "InternalServiceError", "An error occurred on the server side."),
}
_READS = ("GetParameter", "GetParameters")


class _HangUp(Exception):
    """Tells the server to close the connection without an answer."""


@dataclass
class _PastRead:
    """A call that reads the parameters as they were at a time, and whether that made a difference."""

    at: float
    differs: bool = False


_past_read: contextvars.ContextVar[_PastRead | None] = contextvars.ContextVar("past_read", default=None)


def faulty(original: Callable, control: Control) -> Callable:
    """Wraps MiniStack's dispatch of one call to its service."""
    from ministack.core.router import extract_access_key_id

    async def dispatch(method: str, path: str, headers: dict, body: bytes, query_params: dict, request_id: str):
        plan = control.plan
        if plan is None:
            return await original(method, path, headers, body, query_params, request_id)
        service = _service(headers, query_params)
        if service is None or extract_access_key_id(headers, query_params) in plan.faults.exempt_access_keys:
            return await original(method, path, headers, body, query_params, request_id)
        failure = await _failure(plan, control, service, method, request_id)
        if failure:
            return failure
        stale = plan.faults.stale_ssm
        operation = headers.get("x-amz-target", "").partition(".")[2]
        if service != "ssm" or operation not in _READS or not plan.hits("stale_reads.ssm", stale.share):
            return await original(method, path, headers, body, query_params, request_id)
        read = _PastRead(time.monotonic() - stale.lag_ms / 1000)
        token = _past_read.set(read)
        try:
            return await original(method, path, headers, body, query_params, request_id)
        finally:
            _past_read.reset(token)
            if read.differs:
                control.count("stale_reads.ssm.answered")

    return dispatch


def _service(headers: dict, query_params: dict) -> str | None:
    """The store that a call is to. A call to S3 names no operation: its signature is for S3."""
    if target := headers.get("x-amz-target", ""):
        return _TARGETS.get(target.partition(".")[0])
    from ministack.services import s3

    return "s3" if s3.signed_service(headers, query_params) == "s3" else None


async def _failure(plan: Plan, control: Control, service: str, method: str, request_id: str) -> tuple | None:
    """The answer to a call that is not carried out."""
    kind = f"calls.{service}"
    if service in plan.faults.down:
        control.count(f"{kind}.refused")
        raise _HangUp
    faults = plan.faults.calls[service]
    if faults.latency_ms[1]:
        control.count(f"{kind}.slowed")
        await asyncio.sleep(plan.seconds(f"{kind}.latency_ms", faults.latency_ms))
    if plan.hits(f"{kind}.throttle", faults.throttle):
        control.count(f"{kind}.throttled")
        return _error(service, method, *_THROTTLED[service], request_id)
    if plan.hits(f"{kind}.error", faults.error):
        control.count(f"{kind}.failed")
        return _error(service, method, *_FAILED[service], request_id)
    return None


def _error(service: str, method: str, status: int, code: str, message: str, request_id: str) -> tuple:
    if service == "s3":
        document = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId></Error>"
        body = b"" if method == "HEAD" else f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'.encode()
        return status, {"Content-Type": "application/xml", "x-amz-request-id": request_id}, body
    headers = {"Content-Type": _CONTENT_TYPES[service], "x-amzn-RequestId": request_id}
    return status, headers, json.dumps({"__type": code, "message": message}).encode()


def hanging_up(original: Callable) -> Callable:
    """Wraps the whole of MiniStack, since only its outermost `send` leads to the connection."""
    from hypercorn.protocol.events import StreamClosed

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        try:
            await original(scope, receive, send)
        except _HangUp:
            stream = send.__self__
            await stream.send(StreamClosed(stream_id=stream.stream_id))

    return app


def remember_parameters(ssm: ModuleType, control: Control) -> None:
    """Lets a `_PastRead` see the past of the parameters."""
    history = _History(ssm, control)
    ssm._put_parameter = history.noting(ssm._put_parameter, lambda data: [data.get("Name")])
    ssm._delete_parameter = history.noting(ssm._delete_parameter, lambda data: [data.get("Name")])
    ssm._delete_parameters = history.noting(ssm._delete_parameters, lambda data: data.get("Names") or [])
    ssm._select_parameter = history.selecting(ssm._select_parameter)


@dataclass(frozen=True)
class _Change:
    """When a parameter changed, and what it held before: None where it did not exist."""

    at: float
    before: dict | None


class _History:
    """What each parameter held before each of its last changes. Notes nothing while no reads are stale."""

    def __init__(self, ssm: ModuleType, control: Control) -> None:
        from ministack.core.responses import get_account_id, get_region

        self._lookup = ssm._lookup_parameter
        self._scope = lambda: (get_account_id(), get_region())
        self._control = control
        self._lock = threading.Lock()
        self._changes: dict[tuple, collections.deque[_Change]] = collections.defaultdict(collections.deque)

    def noting(self, original: Callable[[dict], tuple], names: Callable[[dict], Iterable[Any]]) -> Callable:
        """Wraps an operation that may change the parameters of these names."""

        @functools.wraps(original)
        def operation(data: dict) -> tuple:
            plan = self._control.plan
            if plan is None or not plan.faults.stale_ssm.share:
                return original(data)
            before = {name: self._lookup(name)[1] for name in names(data) if isinstance(name, str)}
            response = original(data)
            for name, record in before.items():
                if self._lookup(name)[1] is not record:
                    self._note((*self._scope(), name), record)
            return response

        return operation

    def selecting(self, original: Callable[[str], tuple]) -> Callable[[str], tuple]:
        """Wraps how GetParameter and GetParameters find a parameter."""

        @functools.wraps(original)
        def select(name_or_arn: str) -> tuple:
            read = _past_read.get()
            if read is None or not isinstance(name_or_arn, str):
                return original(name_or_arn)
            name = self._lookup(name_or_arn)[0] or name_or_arn
            then = self._first_change_after(read.at, (*self._scope(), name))
            if then is None:
                return original(name_or_arn)
            read.differs = True
            return (then.before, None) if then.before else (None, "ParameterNotFound")

        return select

    def _note(self, parameter: tuple, before: dict | None) -> None:
        now = time.monotonic()
        with self._lock:
            changes = self._changes[parameter]
            changes.append(_Change(now, before))
            while changes[0].at < now - MOST_MILLISECONDS / 1000:
                changes.popleft()

    def _first_change_after(self, at: float, parameter: tuple) -> _Change | None:
        with self._lock:
            return next((change for change in self._changes.get(parameter, ()) if change.at > at), None)
