"""The emulator extension: what EventBridge is sent about an object of a versioned bucket names the version, as on AWS.

MiniStack knows the version of the object and leaves it out of the event. AWS's event
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html) has it as `detail.object.version-id`; without versioning there is none.
The event of a deletion has no size. That of a delete marker has the entity tag of no bytes.

It hooks private functions of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import contextvars
import functools
import hashlib
import inspect
import json
from types import ModuleType
from typing import Any, Callable

import hooks

_version: contextvars.ContextVar[str | None] = contextvars.ContextVar("object_version", default=None)
"""The version that the event on its way is about."""
EMPTY_ETAG = hashlib.md5(b"", usedforsecurity=False).hexdigest()


def verify(s3: ModuleType, eventbridge: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked is as this module knows it."""
    hooks.require_function(s3, "_fire_s3_event", [
        "bucket_name", "key", "event_name", "size", "etag", "deletion_type", "restore_event_data", "version_id", "sequencer",
        "object_extra", "record_extra",
    ])
    hooks.require_function(eventbridge, "_dispatch_event", ["event", "view"])


def install() -> None:
    """Hooks the installed MiniStack."""
    from ministack.services import eventbridge, s3

    hooks.require_version(hooks.installed_version())
    verify(s3, eventbridge)
    s3._fire_s3_event = _noting_version(s3._fire_s3_event)
    eventbridge._dispatch_event = _with_version(eventbridge._dispatch_event)


def _noting_version(original: Callable[..., None]) -> Callable[..., None]:
    parameters = inspect.signature(original)

    @functools.wraps(original)
    def fire_s3_event(*arguments: Any, **named: Any) -> None:
        token = _version.set(parameters.bind(*arguments, **named).arguments.get("version_id"))
        try:
            original(*arguments, **named)
        finally:
            _version.reset(token)

    return fire_s3_event


def _with_version(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def dispatch_event(event: dict, view: Any = None) -> None:
        if event.get("Source") == "aws.s3":
            event = {**event, "Detail": json.dumps(_as_on_aws(json.loads(event["Detail"]), _version.get()))}
        original(event, view)

    return dispatch_event


def _as_on_aws(detail: dict, version: str | None) -> dict:
    """The detail with the object's members as AWS has them, in its order."""
    found = dict(detail["object"])
    sequencer = found.pop("sequencer", None)
    if "deletion-type" in detail:
        found.pop("size", None)
        is_marker = detail["deletion-type"] == "Delete Marker Created"
        etag = EMPTY_ETAG if is_marker else found.get("etag")
        found = {"key": found["key"]} | ({"etag": etag} if etag else {})
    if version:
        found["version-id"] = version
    if sequencer:
        found["sequencer"] = sequencer
    return {**detail, "object": found}
