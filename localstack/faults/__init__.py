"""The emulator extension: faults on demand, for the fault suite. None is set when the emulator starts.

`PUT`, `GET` and `DELETE` on `PATH` of the emulator's own port set, show and clear them. Read in this order:
`document` (the JSON that sets faults), `control` (the endpoint, the dice, the counters), `events` (changes on their way
to the invalidator), `calls` (the answers to clients of the stores).

Each hook reads one attribute, `Control.plan`. If no fault is set, it calls the function that it replaced.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import hooks

if TYPE_CHECKING:
    from .control import Control

PATH = "/_tagged-config/faults"
"""The control endpoint's path."""


def verify(app: ModuleType, lambda_svc: ModuleType, s3: ModuleType, ssm: ModuleType, http_stream: type) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked or called is as these modules know it."""
    hooks.require_function(app, "app", ["scope", "receive", "send"])
    hooks.require_function(app, "_handle_admin_config_request", ["path", "method", "body"])
    hooks.require_function(
        app, "_dispatch_service_request", ["method", "path", "headers", "body", "query_params", "request_id"]
    )
    hooks.require_function(
        lambda_svc, "_execute_function_dispatch", ["func", "config", "event", "request_id", "started"]
    )
    hooks.require_function(s3, "signed_service", ["headers", "query_params"])
    for name in ("_put_parameter", "_delete_parameter", "_delete_parameters"):
        hooks.require_function(ssm, name, ["data"])
    hooks.require_function(ssm, "_select_parameter", ["name_or_arn"])
    hooks.require_function(ssm, "_lookup_parameter", ["name_or_arn", "allow_arn_region", "flexible_name"])
    hooks.require_function(http_stream, "app_send", ["self", "message"])


def install() -> Control:
    """Hooks the installed MiniStack. Call it before `parameter_events.install`, which takes `Control.deliveries`: a
    parameter's past must be noted before the event of its change is out."""
    hooks.require_version(hooks.installed_version())
    from hypercorn.protocol.http_stream import HTTPStream
    from ministack import app
    from ministack.services import lambda_svc, s3, ssm

    from . import calls, events
    from .control import Control

    verify(app, lambda_svc, s3, ssm, HTTPStream)
    control = Control()
    app._handle_admin_config_request = _controlled(app._handle_admin_config_request, control)
    app._dispatch_service_request = calls.faulty(app._dispatch_service_request, control)
    app.app = calls.hanging_up(app.app)
    calls.remember_parameters(ssm, control)
    lambda_svc._execute_function_dispatch = events.Invocations(lambda_svc._execute_function_dispatch, control).invoke
    return control


def _controlled(original, control: Control):
    """Adds `PATH` to what MiniStack answers before it selects a service."""

    async def handle(path: str, method: str, body: bytes):
        if path == PATH:
            return control.answer(method, body)
        return await original(path, method, body)

    return handle
