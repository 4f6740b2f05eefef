"""The AWS target without AWS: plans of both environments, then the deployment tool's own deploy and destroy, on moto.

Run with the virtual environment's Python. Ends with `N passed, N failed`. What moto lacks is switched off by the
root's variables: autoscaling and saved queries. It has no data plane either: nothing is built, no image is pushed.
Everything runs on a copy of the tree, with one override: S3 addresses that an emulator understands.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
LACKING = ["autoscaling_enabled=false", "log_queries_enabled=false", "manage_account_settings=true"]
OVERRIDE = 'provider "aws" {\n  s3_use_path_style = true\n  max_retries       = 3\n}\n'
COPIED = ("terraform", "deploy", "localstack")


class Checks:
    """Counts."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def check(self, title: str, command: list[str], environment: dict[str, str], *, expect: str, code: int = 0) -> bool:
        """One command, which must end with this code and print this."""
        started = time.monotonic()
        result = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=900,
        )
        good = result.returncode == code and expect in result.stdout
        if not good:
            print(result.stdout[-6000:])
        print(f"{'ok   ' if good else 'FAIL '} {title} ({time.monotonic() - started:.0f} s)", flush=True)
        self.passed += good
        self.failed += not good
        return good

    def checks_of(self, command: list[str]) -> None:
        """A command that counts its own checks in its last line."""
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
        )
        lines = result.stdout.splitlines()
        print(*lines[:-1], sep="\n", flush=True)
        summary = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1] if lines else "")
        self.passed += int(summary[1]) if summary else 0
        self.failed += int(summary[2]) if summary else 1


@contextlib.contextmanager
def moto(log: Path) -> Iterator[str]:
    """A moto server of its own, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    with open(log, "w") as output:
        server = subprocess.Popen(
            [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)],
            env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server, log)
        # Functions are stored, not run: moto would want Docker for that.
        request = urllib.request.Request(f"{url}/moto-api/config", data=b'{"lambda": {"use_docker": false}}', method="POST")
        urllib.request.urlopen(request, timeout=10).close()
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise RuntimeError(f"moto_server ended at its start: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(f"{url}/moto-api/config", timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("moto_server did not answer in 60 s")


def copy_of_the_tree(folder: Path) -> Path:
    """The folders that are written to, copied; everything else, linked."""
    for entry in REPOSITORY.iterdir():
        if entry.name in COPIED:
            ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "backend_override.tf", "__pycache__")
            shutil.copytree(entry, folder / entry.name, ignore=ignored)
        elif entry.name != ".local":
            (folder / entry.name).symlink_to(entry)
    # A folder for the state of the tools, with the environment and the caches that there are already.
    (folder / ".local").mkdir()
    for entry in (REPOSITORY / ".local").iterdir():
        if entry.name in ("venv", "venv.lock", "bin", "cache"):
            (folder / ".local" / entry.name).symlink_to(entry)
    (folder / "terraform" / "aws" / "emulated_override.tf").write_text(OVERRIDE)
    return folder


def main() -> int:
    checks = Checks()
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_of_the_tree(Path(temporary))
        with moto(folder / "moto.log") as url:
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_VAR_"))}
            environment = kept | {
                "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            }

            def deploy(command: str, env: str, *more: str, variables: list[str]) -> list[str]:
                options = [option for variable in variables for option in ("--var", variable)]
                return [sys.executable, str(folder / "deploy" / "deploy.py"), command, "--env", env, *options, *more]

            for env, api in (("dev", "rest"), ("dev", "http"), ("prod", "rest"), ("prod", "http")):
                command = deploy("plan", env, variables=[f"api_type={api}"])
                checks.check(f"plan {env}, {api}", command, environment, expect="Plan: ")
            for variable, message in (
                ("admin_password_sign_in=true", "admin_password_sign_in must be false in prod"),
                ("load_test_runner=true", "load_test_runner must be false in prod"),
                ("api_type=soap", "api_type must be rest or http"),
            ):
                command = deploy("plan", "prod", variables=[variable])
                checks.check(f"prod refuses {variable}", command, environment, expect=message, code=1)
            everything = [*LACKING, "load_test_runner=true", "alert_emails=[\"a@example.com\"]", "nat=single"]
            command = deploy("deploy", "dev", variables=LACKING[:2])
            checks.check("deploy without Docker or a log role says so", command, environment, expect="error: ", code=1)
            command = deploy("deploy", "dev", "--without-build", variables=everything)
            if checks.check("deploy dev", command, environment, expect="make rollback ENV=dev"):
                state = folder / "terraform" / "aws" / "dev.tfstate"
                checks.checks_of([sys.executable, str(REPOSITORY / "scripts" / "deployed_checks.py"), str(state)])
                command = deploy("destroy-verify", "dev", variables=[])
                checks.check("what is deployed counts as left", command, environment, expect="LEFT: ", code=1)
                command = deploy("destroy", "dev", "--yes", "prod", variables=everything)
                checks.check("destroy wants the right name", command, environment, expect="nothing was removed", code=1)
            command = deploy("destroy", "dev", "--yes", "dev", variables=everything)
            checks.check("destroy dev, nothing is left", command, environment, expect="nothing is left")
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    # Ended from outside, the server still goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
