"""A real emulator, with the extensions, for one test class."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from launcher import emulator, network, processes
from launcher.settings import REGION


class RunningEmulator:
    """Starts an emulator on a free port, in a folder of its own. Call `stop` at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        port = network.free_port()
        self.url = f"http://127.0.0.1:{port}"
        log = Path(self._folder.name, "emulator.log")
        with open(log, "w") as output:
            self._process = subprocess.Popen(
                emulator.command(),
                env=emulator.environment(port, Path(self._folder.name)),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if not processes.wait_until(lambda: network.request(f"{self.url}/_ministack/health")[0] == 200, 60):
            self._process.kill()
            raise AssertionError(f"the emulator did not start:\n{log.read_text()}")

    def client(self, service: str, access_key: str = "test") -> Any:
        """A boto3 client of this emulator. It tries nothing twice."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def stop(self) -> None:
        """Ends the emulator and removes its folder."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()
