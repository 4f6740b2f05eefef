"""The HTTP_PROXY extension: what an integration answers comes through an HTTP API as it is."""

from __future__ import annotations

import threading
import time
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.running_emulator import RunningEmulator


class _Backend(BaseHTTPRequestHandler):
    """Answers 404 with a problem document, its body a moment after its head; echoes the request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = f"{self.command} {self.path} {self.headers['X-Custom']} ".encode() + body
        self.send_response(404)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("ETag", '"abc"')
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.flush()
        time.sleep(0.3)
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


class ProxiedAnswers(unittest.TestCase):
    """An HTTP API with one route to a small server of this test."""

    def test_an_error_comes_through_unchanged_and_nothing_waits_for_it(self) -> None:
        backend = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
        self.addCleanup(backend.server_close)
        self.addCleanup(backend.shutdown)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        emulator = RunningEmulator()
        self.addCleanup(emulator.stop)
        gateway = emulator.client("apigatewayv2")
        api = gateway.create_api(Name="proxied", ProtocolType="HTTP")["ApiId"]
        integration = gateway.create_integration(
            ApiId=api,
            IntegrationType="HTTP_PROXY",
            IntegrationMethod="ANY",
            IntegrationUri=f"http://127.0.0.1:{backend.server_address[1]}/prefix",
            PayloadFormatVersion="1.0",
        )["IntegrationId"]
        gateway.create_route(ApiId=api, RouteKey="$default", Target=f"integrations/{integration}")
        gateway.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)

        slowest = [0.0]
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                start = time.monotonic()
                urllib.request.urlopen(f"{emulator.url}/_ministack/health", timeout=10).read()
                slowest[0] = max(slowest[0], time.monotonic() - start)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(
                    urllib.request.Request(
                        f"{emulator.url}/_aws/execute-api/{api}/v1/a/b?x=1&x=2",
                        data=b"body",
                        headers={"X-Custom": "yes"},
                        method="POST",
                    ),
                    timeout=10,
                )
        finally:
            done.set()
            watcher.join()
        answer = caught.exception
        self.addCleanup(answer.close)
        self.assertEqual(answer.code, 404)
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        self.assertEqual(answer.headers["ETag"], '"abc"')
        self.assertEqual(answer.read(), b"POST /prefix/v1/a/b?x=1&x=2 yes body")
        self.assertLess(slowest[0], 0.25, "the emulator stood still while the answer was on its way")


if __name__ == "__main__":
    unittest.main()
