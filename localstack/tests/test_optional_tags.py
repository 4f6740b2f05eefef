"""The tags that can be left out, `blob_config_*` and `secret_config_*`: variables, seed, and steps of the demonstration."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import io
import json
import re
import threading
import unittest
from typing import Any
from unittest import mock
from urllib.parse import urlparse

from botocore.exceptions import ClientError

import demo
import seed
from launcher import network
from launcher.layout import TERRAFORM
from launcher.replicas import Replicas
from launcher.settings import USERS, Ports, Settings
from tests.running_emulator import RunningEmulator

ALWAYS = (
    "api_url", "alb_url", "user_pool_id", "client_id", "jwks_url", "issuer", "table_name", "journal_table_name", "history_table_name",
    "parameter_root", "cloud_map_namespace", "invalidator_log_group",
)
TAGS = {"blob_bucket": "blobs", "secrets_arn": "arn:secret:tagged-config/config", "secret_root": "tagged-config/config"}


def settings(**outputs: str | None) -> Settings:
    return Settings("dev", 4566, "127.0.10", "password", outputs={name: name for name in ALWAYS} | outputs)


class Variables(unittest.TestCase):
    """What programs and people are told."""

    def of_replica(self, stack: Settings) -> dict[str, str]:
        replicas = Replicas.__new__(Replicas)
        replicas._settings, replicas._credential = stack, "credential"
        return replicas.environment(stack.config[0], {"AWS_ACCESS_KEY_ID": "a"})

    def test_history_and_discovery(self) -> None:
        stack = settings(cloud_map_namespace="tagged-config.local", history_table_name="History")
        found = self.of_replica(stack)
        self.assertEqual(
            {name: found[f"TAGGED_CONFIG_{name}"] for name in (
                "HISTORY_TABLE", "HISTORY_RETENTION_DAYS", "CLOUD_MAP_NAMESPACE", "CLOUD_MAP_SERVICE", "REFRESH_PORT")},
            {"HISTORY_TABLE": "History", "HISTORY_RETENTION_DAYS": "90", "CLOUD_MAP_NAMESPACE": "tagged-config.local",
             "CLOUD_MAP_SERVICE": "config-service", "REFRESH_PORT": "50052"})
        # What Cloud Map has of a task is its address; the port is the same for all.
        self.assertTrue(found["TAGGED_CONFIG_REFRESH_ADDR"].endswith(f":{found['TAGGED_CONFIG_REFRESH_PORT']}"))
        self.assertEqual({replica.refresh for replica in stack.config}, {50052})

    def test_both_tags(self) -> None:
        stack = settings(**TAGS)
        found = self.of_replica(stack)
        self.assertEqual(
            (found["TAGGED_CONFIG_BLOB_BUCKET"], found["TAGGED_CONFIG_SECRET_ROOT"]), (TAGS["blob_bucket"], TAGS["secrets_arn"]))
        printed = stack.environment()
        self.assertEqual((printed["BLOB_BUCKET"], printed["SECRET_ROOT"]), (TAGS["blob_bucket"], TAGS["secret_root"]))

    def test_a_tag_that_is_left_out_has_no_variable(self) -> None:
        for outputs in ({}, dict.fromkeys(TAGS), dict.fromkeys(TAGS, "")):
            stack = settings(**outputs)
            for name in ("TAGGED_CONFIG_BLOB_BUCKET", "TAGGED_CONFIG_SECRET_ROOT", "BLOB_BUCKET", "SECRET_ROOT"):
                self.assertNotIn(name, self.of_replica(stack) | stack.environment())
        self.assertNotIn("TAGGED_CONFIG_SECRET_ROOT", self.of_replica(settings(blob_bucket="blobs")))

    def test_the_operators_tenant_is_named_where_there_is_one(self) -> None:
        self.assertEqual(self.of_replica(settings(operator_tenant="operators"))["TAGGED_CONFIG_OPERATOR_TENANT"], "operators")
        for stack in (settings(), settings(operator_tenant=None)):
            self.assertNotIn("TAGGED_CONFIG_OPERATOR_TENANT", self.of_replica(stack))

    def test_the_operators_admin_is_of_the_tenant_that_terraform_names(self) -> None:
        variables = (TERRAFORM / "local" / "variables.tf").read_text()
        default = re.search(r'^variable "operator_tenant" \{.*?^  default\s*= "(.*?)"', variables, re.DOTALL | re.MULTILINE)[1]
        email, *tenant_and_role = USERS["OPERATOR_ADMIN"]
        self.assertEqual((tenant_and_role, settings().environment()["OPERATOR_ADMIN"]), ([default, "admin"], email))

    def test_order_service_knows_of_neither(self) -> None:
        stack = settings(**TAGS)
        replicas = Replicas.__new__(Replicas)
        replicas._settings = stack
        self.assertNotIn("blobs", replicas.environment(stack.order).values())


class FakeService(http.server.BaseHTTPRequestHandler):
    """Answers as config-service does for these two keys, without a cache."""

    s3: Any
    secrets: Any

    def do_GET(self) -> None:
        role = self.headers["Authorization"].removeprefix("Bearer ")
        if self.path == f"/v1/config/{demo.BLOB}{demo.RAW}":
            status, body = 200, self.s3.get_object(Bucket="blobs", Key="tenants/A1B2C3D4/pricing/table.json")["Body"].read()
        elif role != "admin":
            status, body = 403, b"{}"
        else:
            found = self.secrets.get_secret_value(SecretId="tagged-config/config/tenants/A1B2C3D4/payment/api-key")
            status, body = 200, json.dumps({"value": found["SecretString"]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


class Stores(unittest.TestCase):
    """The seed and the demonstration against an emulator, with a fake of the service."""

    @classmethod
    def setUpClass(cls) -> None:
        emulator = RunningEmulator()
        cls.addClassCleanup(emulator.stop)
        cls.s3, cls.secrets = emulator.client("s3"), emulator.client("secretsmanager")
        cls.s3.create_bucket(Bucket="blobs")
        cls.s3.put_bucket_versioning(Bucket="blobs", VersioningConfiguration={"Status": "Enabled"})
        cls.key = emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
        address, port = f"{network.free_network((1,), ())}.1", network.free_port()
        FakeService.s3, FakeService.secrets = cls.s3, cls.secrets
        server = http.server.ThreadingHTTPServer((address, port), FakeService)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        cls.stack = dataclasses.replace(
            settings(**TAGS, secret_kms_key_arn=cls.key, api_url=f"http://{address}:{port}"),
            emulator_port=urlparse(emulator.url).port, network=address.removesuffix(".1"), ports=Ports(http=port), config_replicas=1,
        )
        seed.seed_blobs(cls.stack)
        seed.seed_secrets(cls.stack)

    def text(self, key: str) -> str:
        return self.s3.get_object(Bucket="blobs", Key=key)["Body"].read().decode()

    def test_the_seed_is_there_without_metadata(self) -> None:
        sizes = {one["Key"]: one["Size"] for one in self.s3.list_objects_v2(Bucket="blobs")["Contents"]}
        self.assertEqual(sizes, {key: len(content) for key, content in seed.BLOBS.items()})
        self.assertEqual((sizes["global/receipt/font.bin"], sizes["tenants/A1B2C3D4/ranking/model.bin"]), (64 << 10, 2 << 20))
        for key in sizes:
            self.assertEqual(self.s3.head_object(Bucket="blobs", Key=key)["Metadata"], {})
        found = self.secrets.describe_secret(SecretId="tagged-config/config/global/payment/api-key")
        self.assertEqual(found["KmsKeyId"], self.key)

    def test_the_seed_overwrites_nothing(self) -> None:
        key, name = "global/pricing/table.json", "tagged-config/config/global/payment/api-key"
        self.s3.put_object(Bucket="blobs", Key=key, Body=b"mine")
        self.addCleanup(self.s3.put_object, Bucket="blobs", Key=key, Body=seed.BLOBS[key])
        self.secrets.put_secret_value(SecretId=name, SecretString="mine")
        seed.seed_blobs(self.stack)
        seed.seed_secrets(self.stack)
        self.assertEqual((self.text(key), self.secrets.get_secret_value(SecretId=name)["SecretString"]), ("mine", "mine"))

    def test_another_failure_of_the_seed_is_raised(self) -> None:
        with self.assertRaisesRegex(ClientError, "NoSuchBucket"):
            seed.seed_blobs(dataclasses.replace(self.stack, outputs=self.stack.outputs | {"blob_bucket": "absent"}))

    def test_the_steps_of_the_demonstration(self) -> None:
        key, name = "tenants/A1B2C3D4/pricing/table.json", "tagged-config/config/tenants/A1B2C3D4/payment/api-key"
        before = self.text(key), self.secrets.get_secret_value(SecretId=name)["SecretString"]
        roles = {email: role for email, _, role in USERS.values()}
        said = io.StringIO()
        with mock.patch("launcher.aws.sign_in", lambda _, email: roles[email]), contextlib.redirect_stdout(said):
            alice = demo._person(self.stack, "TENANT_A_USER")
            self.assertEqual(demo._replace_an_object(self.stack, 6, alice) + demo._rotate_a_secret(self.stack, 7, alice), [])
        self.assertEqual((self.text(key), self.secrets.get_secret_value(SecretId=name)["SecretString"]), before)
        lines = said.getvalue().splitlines()
        self.assertEqual(sum(line.endswith("ok") for line in lines), 4)
        self.assertIn("403", said.getvalue())
        self.assertNotIn(before[1], said.getvalue(), "the secret itself is not printed")


if __name__ == "__main__":
    unittest.main()
