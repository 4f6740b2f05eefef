"""The extension that writes head and body of an answer together."""

from __future__ import annotations

import http.client
import socket
import unittest
import urllib.parse

from tests.running_emulator import RunningEmulator


class WholeAnswers(unittest.TestCase):
    """Answers as a socket receives them."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = RunningEmulator()
        cls.addClassCleanup(cls.emulator.stop)
        cls.address = urllib.parse.urlsplit(cls.emulator.url)

    def test_what_is_received_first_is_all_of_it(self) -> None:
        request = f"GET /_ministack/health HTTP/1.1\r\nHost: {self.address.netloc}\r\n\r\n".encode()
        with socket.create_connection((self.address.hostname, self.address.port), timeout=10) as connection:
            # In two writes, nearly each of them comes in two parts.
            for _ in range(200):
                connection.sendall(request)
                answer = connection.recv(65_536)
                head, _, body = answer.partition(b"\r\n\r\n")
                self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
                self.assertIn(f"content-length: {len(body)}".encode(), head.lower(), answer)
                self.assertTrue(body.endswith(b"}"), answer)

    def test_an_answer_without_a_body_comes_too(self) -> None:
        connection = http.client.HTTPConnection(self.address.netloc, timeout=10)
        self.addCleanup(connection.close)
        for method in ("HEAD", "GET", "HEAD"):
            connection.request(method, "/_ministack/health")
            answer = connection.getresponse()
            self.assertEqual((answer.status, bool(answer.read())), (200, method == "GET"))
