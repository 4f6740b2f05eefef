"""LocalStack beside the emulator: its compose file, and the endpoints that each program gets. Its image is not needed."""

from __future__ import annotations

import os
import subprocess
import unittest
from urllib.parse import urlparse

import ecs_tasks
from launcher import localstack
from launcher.errors import StackError
from launcher.settings import Settings
from tests.running_emulator import RunningEmulator


def settings(with_localstack: bool) -> Settings:
    return Settings(
        "dev", 4566, "127.0.10", "password", docker_network="tagged-config-4566", gateway="10.213.1.1",
        with_localstack=with_localstack,
    )


class ComposeFile(unittest.TestCase):
    """Compose reads it as it is meant."""

    def configuration(self, **variables: str) -> subprocess.CompletedProcess:
        try:
            compose = localstack.compose()
        except StackError as error:
            self.skipTest(str(error))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAGGED_CONFIG_", "LOCALSTACK_"))}
        return subprocess.run(
            [*compose, "--file", str(localstack.COMPOSE_FILE), "config"],
            env=kept | variables, capture_output=True, text=True,
        )

    def test_with_what_the_launcher_sets(self) -> None:
        found = self.configuration(**localstack.environment(settings(True)), LOCALSTACK_AUTH_TOKEN="a-token")
        self.assertEqual(found.returncode, 0, found.stderr)
        for expected in (localstack.DEFAULT_IMAGE, "tagged-config-4566", "10.213.1.1", "a-token"):
            self.assertIn(expected, found.stdout)
        self.assertNotIn("0.0.0.0", found.stdout)

    def test_another_image_and_no_token(self) -> None:
        variables = localstack.environment(settings(True)) | {localstack.IMAGE_VARIABLE: "localhost/another:1"}
        found = self.configuration(**variables)
        self.assertEqual(found.returncode, 0, found.stderr)
        self.assertIn("image: localhost/another:1", found.stdout)

    def test_alone_it_says_what_is_missing(self) -> None:
        found = self.configuration()
        self.assertNotEqual(found.returncode, 0)
        self.assertIn("the launcher sets it", found.stderr)

    def test_its_default_image_is_the_launchers(self) -> None:
        self.assertIn(f"{localstack.IMAGE_VARIABLE}:-{localstack.DEFAULT_IMAGE}", localstack.COMPOSE_FILE.read_text())


class Endpoints(unittest.TestCase):
    """Stores and events are LocalStack's where it is there, all else the emulator's."""

    def test_one_emulator(self) -> None:
        alone = settings(False)
        self.assertEqual(alone.endpoints(), {"AWS_ENDPOINT_URL": "http://10.213.1.1:4566"})
        self.assertEqual(alone.endpoint("dynamodb"), alone.endpoint("cognito-idp"))

    def test_two(self) -> None:
        both = settings(True)
        self.assertEqual(urlparse(both.endpoint("dynamodb")).port, 4567)
        self.assertEqual(urlparse(both.endpoint("cognito-idp")).port, 4566)
        for name in ("S3", "SECRETS_MANAGER", "SSM"):
            self.assertEqual(both.endpoints()[f"AWS_ENDPOINT_URL_{name}"], "http://10.213.1.1:4567")
        self.assertNotIn("AWS_ENDPOINT_URL_SERVICEDISCOVERY", both.endpoints())


class TasksSecrets(unittest.TestCase):
    """A task's secrets come from the Parameter Store that has them."""

    def test_by_name_and_by_arn(self) -> None:
        store = RunningEmulator()
        self.addCleanup(store.stop)
        store.client("ssm").put_parameter(Name="/a/secret", Value="plain text", Type="SecureString")
        resolve = ecs_tasks.parameters_at(store.url)
        self.assertEqual(resolve("/a/secret", decrypt=True), "plain text")
        self.assertEqual(resolve("arn:aws:ssm:us-east-1:000000000000:parameter/a/secret", decrypt=True), "plain text")
        self.assertNotEqual(resolve("/a/secret"), "plain text", "only a caller that wants it decrypted gets it so")
        self.assertIsNone(resolve("/absent", decrypt=True))


if __name__ == "__main__":
    unittest.main()
