"""The extension that ends Terraform's connections, and nobody else's."""

from __future__ import annotations

import http.client
import socket
import unittest
import urllib.parse

from tests.running_emulator import RunningEmulator

PROVIDER = "APN/1.0 HashiCorp/1.0 Terraform/1.11.4 (+https://www.terraform.io) terraform-provider-aws/5.100.0"
CALL = {"X-Amz-Target": "AmazonSSM.DescribeParameters"}


class Connections(unittest.TestCase):
    """Calls of Parameter Store over connections that the emulator keeps or ends."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = RunningEmulator()
        cls.addClassCleanup(cls.emulator.stop)
        cls.address = urllib.parse.urlsplit(cls.emulator.url).netloc

    def test_terraform_gets_its_answer_and_the_connection_ends(self) -> None:
        host, port = self.address.split(":")
        headers = {"Host": self.address, "User-Agent": PROVIDER, "Content-Length": "2", **CALL}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(f"POST / HTTP/1.1\r\n{head}\r\n{{}}".encode())
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
        self.assertIn(b"\r\nconnection: close\r\n", answer.lower())
        self.assertTrue(answer.endswith(b'\r\n\r\n{"Parameters": []}'), answer)

    def test_an_sdk_keeps_its_connection(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        self.addCleanup(connection.close)
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("POST", "/", b"{}", {"User-Agent": "aws-sdk-rust/1.3.15 api/ssm", **CALL})
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.read()), (200, b'{"Parameters": []}'))
            self.assertIs(connection.sock, first)
