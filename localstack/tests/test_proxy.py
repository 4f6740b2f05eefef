"""A proxy in the person's environment: the addresses of the local stack are never reached through it."""

from __future__ import annotations

import os
import threading
import unittest
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

from launcher import aws, emulator, network, terraform
from launcher.layout import Layout
from launcher.replicas import Replicas
from launcher.settings import CONFIG_SERVICE, ORDER_SERVICE, Settings

NOWHERE = "http://127.0.0.1:9"
PROXIED = {name: NOWHERE for name in network.PROXY_VARIABLES} | {"NO_PROXY": "10.0.0.0/8, intranet.example"}
OUTPUTS = (
    "api_url", "alb_url", "user_pool_id", "client_id", "jwks_url", "issuer", "table_name", "journal_table_name", "history_table_name",
    "parameter_root", "cloud_map_namespace", "invalidator_log_group",
)


class Answering(BaseHTTPRequestHandler):
    """Answers everything with an empty JSON object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def stack(port: int = 4566, **fields: object) -> Settings:
    return Settings("dev", port, "127.0.10", "password", outputs={name: "http://127.0.0.1" for name in OUTPUTS}, **fields)


@mock.patch.dict(os.environ, PROXIED, clear=True)
class ProxyTest(unittest.TestCase):
    def assertBypassed(self, variables: dict[str, str], *hosts: str) -> None:
        """Python's own reading of the variables: it understands single addresses only."""
        self.assertEqual(variables["NO_PROXY"], variables["no_proxy"])
        for host in hosts:
            with self.subTest(host):
                self.assertTrue(urllib.request.proxy_bypass_environment(host, {"no": variables["no_proxy"]}))

    def test_the_launchers_own_calls_are_direct(self) -> None:
        server = HTTPServer(("127.0.0.1", 0), Answering)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        port = server.server_port
        self.assertEqual(network.request(f"http://127.0.0.1:{port}/"), (200, b"{}"))
        self.assertEqual(aws.client(stack(port), "dynamodb").list_tables().get("TableNames"), None)

    def test_the_printed_variables_name_each_process(self) -> None:
        variables = stack().environment()
        self.assertBypassed(variables, "127.0.0.1:4566", "127.0.10.1", "127.0.10.9", "127.0.10.101", "localhost", "x.intranet.example")
        self.assertIn("10.0.0.0/8", variables["NO_PROXY"].split(","))
        self.assertFalse(urllib.request.proxy_bypass_environment("registry.terraform.io", {"no": variables["no_proxy"]}))

    def test_the_printed_variables_name_each_container_and_their_network(self) -> None:
        addresses = {CONFIG_SERVICE: ["10.213.7.2", "10.213.7.3"], ORDER_SERVICE: ["10.213.7.4"]}
        variables = stack(docker_network="tagged-config-4566", gateway="10.213.7.1", addresses=addresses).environment()
        self.assertBypassed(variables, "10.213.7.1:4566", "10.213.7.2", "10.213.7.3", "10.213.7.4")
        self.assertIn("10.213.7.0/24", variables["NO_PROXY"].split(","))

    def test_the_emulator_and_the_replicas_get_no_proxy(self) -> None:
        replicas = object.__new__(Replicas)
        replicas._settings, replicas._credential = stack(), "credential"
        children = [replicas.environment(replica, {"AWS_ACCESS_KEY_ID": "a"}) for replica in replicas._settings.replicas]
        with mock.patch.object(Path, "mkdir"):
            children.append(emulator.environment(4566, Path("folder")))
        for child in children:
            self.assertEqual([name for name in child if "proxy" in name.lower()], [])

    def test_terraform_reaches_the_registry_through_it_and_the_emulator_without(self) -> None:
        settings = stack(docker_network="tagged-config-4566", gateway="10.213.7.1")
        with mock.patch.multiple(
            terraform, _inputs=mock.DEFAULT, working_copy=mock.DEFAULT, initialise=mock.DEFAULT, _outputs=mock.DEFAULT,
            _resource_count=mock.DEFAULT,
        ), mock.patch.object(terraform.terraform_binary, "find_or_fetch"), mock.patch.object(aws, "assume_role", return_value={}), \
                mock.patch.object(terraform.commands, "run") as run:
            terraform.apply(Layout(Path("folder")), settings, mock.Mock())
        self.assertEqual(run.call_count, 2)
        for call in run.call_args_list:
            self.assertEqual(call.kwargs["environment"]["HTTPS_PROXY"], NOWHERE)
            self.assertBypassed(call.kwargs["environment"], "10.213.7.1:4566")


if __name__ == "__main__":
    unittest.main()
