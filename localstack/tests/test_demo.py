"""The step of the demonstration that undoes a mistake, against a fake of the service."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import io
import json
import threading
import unittest
from typing import Any
from unittest import mock

import demo
from launcher import network
from launcher.settings import USERS, Ports
from tests.test_optional_tags import settings


class FakeService(http.server.BaseHTTPRequestHandler):
    """Keeps values and their history as config-service does. Of schemas it knows that a limit is a number."""

    values: dict[str, tuple[int, Any]]
    history: list[dict[str, Any]]
    edited: Any
    """What was written past the service."""
    has_schemas = True
    guards_edits = True
    live_on = 2

    def do_GET(self) -> None:
        key, part = self.key()
        if part:
            self.answer(200, {"entries": [entry for entry in reversed(self.history) if entry["key"] == key], "nextPageToken": ""})
        elif key not in self.values:
            self.answer(404, {})
        elif key == demo.LIMITS and self.edited is not None:
            shown = self.values[key][1] if self.guards_edits else self.edited
            self.answer(200, {"value": json.dumps(shown), "invalidNewVersion": True})
        else:
            self.answer(200, {"value": json.dumps(self.values[key][1])})

    def do_PUT(self) -> None:
        (key, _), value = self.key(), self.body()
        if self.has_schemas and key == demo.LIMITS and not isinstance(value["maxLines"], int):
            wrong = [{"pointer": f"/{name}", "message": "is wrong", "schema": demo.LIMITS_SCHEMA} for name in value]
            self.answer(422, {"violations": wrong})
        else:
            self.answer(200 if key in self.values else 201, self.write(key, value, "put"))

    def do_POST(self) -> None:
        (key, _), version = self.key(), self.body()["version"]
        value = next(entry["value"] for entry in self.history if entry["version"] == version)
        self.answer(200, self.write(key, value, "rollback"))

    def do_DELETE(self) -> None:
        gone = self.values.pop(self.key()[0], None)
        self.answer(404, {}) if gone is None else self.answer(200, {"version": gone[0]})

    def key(self) -> tuple[str, str]:
        """The key of a path, and what follows it."""
        key, _, part = self.path.partition("?")[0].removeprefix("/v1/config/").partition(":")
        return key, part

    def write(self, key: str, value: Any, operation: str) -> dict[str, Any]:
        version = len(self.history) + 1
        previous = self.values.get(key, (None, None))[0]
        self.values[key] = version, value
        FakeService.edited = None
        self.history.append({
            "key": key, "version": version, "at": "2026-01-02T03:04:05.006Z", "operation": operation, "value": value,
            "by": "0f7c2b0e-0000-4000-8000-000000000000", "role": "writer", "note": self.headers.get("X-Change-Note", "")}
            | ({"previousVersion": previous} if previous else {}))
        tasks = [{"task": f"config-{number}", "live": number <= self.live_on} for number in (1, 2)]
        summary = f"version {version} is live on {self.live_on}/2 tasks"
        return {"version": version, "tasks": {"live": self.live_on == 2, "summary": summary, "tasks": tasks}}

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


class FakeDynamoDb:
    """Takes an edit past the service."""

    def update_item(self, *, TableName: str, Key: dict, UpdateExpression: str, ExpressionAttributeValues: dict) -> None:
        FakeService.edited = json.loads(ExpressionAttributeValues[":value"]["S"])


class SafeChanges(unittest.TestCase):
    def setUp(self) -> None:
        FakeService.values, FakeService.history, FakeService.edited = {}, [], None
        network_of = network.free_network((1, 2), ())
        port = network.free_port()
        for host in (1, 2):
            server = http.server.ThreadingHTTPServer((f"{network_of}.{host}", port), FakeService)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.addCleanup(server.server_close)
            self.addCleanup(server.shutdown)
        self.stack = dataclasses.replace(
            settings(api_url=f"http://{network_of}.1:{port}"), network=network_of, ports=Ports(http=port), config_replicas=2)

    def step(self) -> list[str]:
        """What the step prints; it finds nothing slow."""
        roles = {email: role for email, _, role in USERS.values()}
        said = io.StringIO()
        with (
            mock.patch("launcher.aws.sign_in", lambda _, email: roles[email]),
            mock.patch("launcher.aws.client", lambda *_: FakeDynamoDb()),
            contextlib.redirect_stdout(said),
        ):
            self.assertEqual(demo._undo_a_mistake(self.stack, 8, demo._person(self.stack, "TENANT_A_USER")), [])
        return said.getvalue().splitlines()

    def fails(self, message: str, **service: Any) -> None:
        """The step fails with this message when the service is otherwise, and it leaves nothing."""
        with mock.patch.multiple(FakeService, **service), self.assertRaisesRegex(demo.StepFailed, message):
            self.step()
        self.assertEqual(FakeService.values, {})

    def test_it_shows_all_of_it_and_removes_it(self) -> None:
        for _ in range(2):
            lines = self.step()
            self.assertEqual(sum(line.endswith("ok") for line in lines), 4, lines)
            for shown in (demo.NOTE, "/maxLines  is wrong", "/currency  is wrong", "2026-01-02T03:04:05.006Z  writer 0f7c2b0e"):
                self.assertEqual(sum(shown in line for line in lines), 1, lines)
            self.assertEqual(sum("is live on 2/2 tasks" in line for line in lines), 2, lines)
            self.assertEqual(FakeService.values, {})
        self.assertEqual(
            [entry["operation"] for entry in FakeService.history], ["put", "put", "put", "rollback", "put"] * 2)

    def test_a_change_that_needs_too_long_is_named(self) -> None:
        with mock.patch.object(demo, "TARGET_MILLISECONDS", 0), self.assertRaisesRegex(
                AssertionError, "the mistake.*the rollback.*the edit past the service"):
            self.step()

    def test_a_schema_that_is_not_kept_fails_the_step(self) -> None:
        self.fails("answered 201 instead of 422", has_schemas=False)

    def test_a_task_that_does_not_have_it_fails_the_step(self) -> None:
        self.fails("not live on 2 tasks", live_on=1)

    def test_an_edit_that_is_served_fails_the_step(self) -> None:
        with mock.patch.object(demo, "GIVE_UP_SECONDS", 0.2):
            self.fails("was served with a value that breaks its schema", guards_edits=False)


if __name__ == "__main__":
    unittest.main()
