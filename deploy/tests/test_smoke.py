"""The smoke test against a server that answers as API Gateway does."""

import http.server
import io
import itertools
import json
import threading
import unittest
from unittest import mock

from launcher.errors import StackError
from launcher.progress import Progress, Step

import smoke


class SmokeTest(unittest.TestCase):
    def serve(self, answers: dict[str, list[tuple[int, bytes]]]) -> str:
        """Answers each path with the listed ones, one after the other, and repeats the last one."""
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                left = answers[self.path]
                status, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}/live"

    def probe(self, url: str, limit_seconds: float = 0) -> str:
        with mock.patch.dict("os.environ", {"no_proxy": "*"}):
            return smoke.test(url, Step(Progress(io.StringIO()), "smoke test"), limit_seconds=limit_seconds, pause_seconds=0.01)

    def test_waits_for_a_new_stack(self) -> None:
        url = self.serve({
            "/live/v1/health": [(503, b""), (502, b""), (200, b"ok\n")],
            "/live/v1/config/tenant_config_x": [(403, b""), (401, b"{}")],
        })
        self.assertIn("reaches a task", self.probe(url, limit_seconds=20))

    def test_names_the_hop_that_is_broken(self) -> None:
        for status, hop in ((403, "web ACL"), (404, "listener rule"), (500, "API Gateway itself"), (502, "security groups"),
                            (503, "no healthy task"), (504, "drops packets"), (418, "something else")):
            with self.subTest(status=status), self.assertRaisesRegex(StackError, hop):
                self.probe(self.serve({"/live/v1/health": [(status, b"{}")]}))

    def test_another_server_is_not_taken_for_the_service(self) -> None:
        with self.assertRaisesRegex(StackError, "<html> .*something else"):
            self.probe(self.serve({"/live/v1/health": [(200, b"<html> hello")]}))

    def test_an_open_door_fails_at_once(self) -> None:
        url = self.serve({"/live/v1/health": [(200, b"ok\n")], "/live/v1/config/tenant_config_x": [(200, b"{}")]})
        with self.assertRaisesRegex(StackError, "without a token"):
            self.probe(url, limit_seconds=60)

    def test_no_answer_is_no_answer(self) -> None:
        with self.assertRaisesRegex(StackError, "no answer"):
            self.probe("http://127.0.0.1:9/live")


class Edge:
    """Tasks behind a load balancer, each with a cache, as a signed-in caller meets them."""

    def __init__(self, tasks: int, *, deaf: int | None = None, serving: int | None = None, refused: int = 0) -> None:
        self.caches = [0] * tasks
        self.deaf = deaf
        self.refused = refused
        self.stored = 0
        self.deleted = False
        self._turn = itertools.cycle(range(serving or tasks))
        self._lock = threading.Lock()

    def get(self) -> tuple[int, bytes]:
        with self._lock:
            if self.refused:
                self.refused -= 1
                return 401, b"{}"
            if not self.stored:
                return 404, b'{"type":"urn:tagged-config:problem:not-found"}'
            task = next(self._turn)
            if not self.caches[task] or task != self.deaf:
                self.caches[task] = self.stored
            return 200, json.dumps({"version": self.caches[task], "servedBy": f"task-{task}"}).encode()

    def put(self, _: int) -> int:
        self.stored += 10
        return self.stored

    def delete(self) -> tuple[int, bytes]:
        self.deleted = True
        return 200, b""


class ExerciseTest(unittest.TestCase):
    def exercise(self, edge: Edge, *, tasks: int = 3, limit_seconds: float = 0.2) -> str:
        step = Step(Progress(io.StringIO()), "smoke test")
        return smoke.exercise(edge, lambda: tasks, step, limit_seconds=limit_seconds, event_seconds=0.2, pause_seconds=0.001)

    def test_every_task_sees_a_change(self) -> None:
        edge = Edge(3)
        self.assertIn("seen by all 3 tasks", self.exercise(edge))
        self.assertTrue(edge.deleted)

    def test_a_task_that_keeps_what_it_cached_is_named(self) -> None:
        edge = Edge(3, deaf=1)
        with self.assertRaisesRegex(StackError, "not seen by task-1 within"):
            self.exercise(edge)
        self.assertTrue(edge.deleted)

    def test_a_task_that_gets_no_requests_is_missed(self) -> None:
        with self.assertRaisesRegex(StackError, "only 2 of 3 tasks answered"):
            self.exercise(Edge(3, serving=2))

    def test_a_token_that_is_refused_at_first_is_waited_for(self) -> None:
        self.assertIn("seen by all", self.exercise(Edge(3, refused=3), limit_seconds=20))

    def test_an_authorizer_that_refuses_everybody_fails(self) -> None:
        with self.assertRaisesRegex(StackError, "401 .*refuse a valid token"):
            self.exercise(Edge(3, refused=10**6))


if __name__ == "__main__":
    unittest.main()
