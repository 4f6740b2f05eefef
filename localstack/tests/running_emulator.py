"""A real emulator, with the extensions, for one test class."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Mapping

import boto3
from botocore.config import Config

from launcher import credentials, emulator, network, processes
from launcher.settings import REGION


SECRET = "a-secret-for-tests-only"
"""What the tokens of the credentials endpoint are derived from."""


def policy(*statements: dict) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class RunningEmulator:
    """Starts an emulator on a free port, in a folder of its own. Call `stop` at the end."""

    def __init__(self, **variables: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        port = network.free_port()
        self.url = f"http://127.0.0.1:{port}"
        log = Path(self._folder.name, "emulator.log")
        with open(log, "w") as output:
            self._process = subprocess.Popen(
                emulator.command(),
                env=emulator.environment(port, Path(self._folder.name), credentials_secret=SECRET) | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if not processes.wait_until(lambda: network.request(f"{self.url}/_ministack/health")[0] == 200, 60):
            self._process.kill()
            raise AssertionError(f"the emulator did not start:\n{log.read_text()}")

    def client(self, service: str, keys: Mapping[str, str] = credentials.ROOT, config: Config | None = None) -> Any:
        """A boto3 client of this emulator, by default the account's root. It tries nothing twice."""
        once = Config(retries={"total_max_attempts": 1}, inject_host_prefix=False)
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            **{name.lower(): value for name, value in keys.items()},
            config=once.merge(config) if config else once,
        )

    def role(self, name: str, service: str, *statements: dict, **condition: dict) -> str:
        """Makes a role that a service may assume; its ARN."""
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}, "Condition": condition}
        iam = self.client("iam")
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        self.allow(name, *statements)
        return arn

    def allow(self, role: str, *statements: dict) -> None:
        """Replaces what the role may do."""
        if statements:
            self.client("iam").put_role_policy(RoleName=role, PolicyName="policy", PolicyDocument=policy(*statements))

    def user(self, name: str) -> dict[str, str]:
        """Makes a user who may do everything; the keys."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        iam.put_user_policy(UserName=name, PolicyName="everything", PolicyDocument=policy(everything))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

    def stop(self) -> None:
        """Ends the emulator and removes its folder."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()
