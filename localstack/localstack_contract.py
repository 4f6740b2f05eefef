#!/usr/bin/env python3
"""Checks that LocalStack's code still sends the Parameter Store events that the invalidator's tests have recorded.

`make test-localstack` runs it. LocalStack's events differ from AWS's: every write is a `Create`, there is no `type`, no
resource, and a deletion is announced before it is done. The function that sends them is LocalStack's own, called in this process;
the store below it (moto) and EventBridge's interface are fakes. `--record` writes the file again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LOCALSTACK = Path(__file__).resolve().parent
VENV = LOCALSTACK.parent / ".local" / "localstack-venv"
RECORDED = LOCALSTACK.parent / "lambdas" / "invalidator" / "tests" / "fixtures" / "localstack_events.json"
REQUIREMENTS = LOCALSTACK / "requirements-localstack.txt"
NAME = "/app/global/x"


def main() -> int:
    """0 when the events are the recorded ones."""
    if Path(sys.prefix).resolve() != VENV.resolve():
        enter_venv()
    found = record()
    if "--record" in sys.argv:
        RECORDED.write_text(json.dumps(found, indent=2) + "\n")
        print(f"recorded {len(found)} events in {RECORDED}")
        return 0
    recorded = json.loads(RECORDED.read_text())
    if found != recorded:
        print(f"LocalStack's events are no longer the recorded ones.\nfound:    {found}\nrecorded: {recorded}", file=sys.stderr)
        return 1
    print(f"LocalStack's code sends the {len(found)} recorded events")
    return 0


def record() -> list[dict]:
    """What LocalStack gives to EventBridge for each operation."""
    from unittest import mock

    from localstack.aws.api import RequestContext
    from localstack.services.ssm import provider

    sent: list[dict] = []

    class Events:
        """A fake of EventBridge, with the calls that are used."""

        def put_events(self, Entries: list[dict]) -> None:  # noqa: N803
            sent.extend(Entries)

    class Clients:
        """The clients that LocalStack connects with."""

        events = Events()

    ssm = provider.SsmProvider()
    context = RequestContext(None)
    context.account_id, context.region = "000000000000", "us-east-1"
    operations = {
        "put": lambda: ssm.put_parameter(context, {"Name": NAME, "Value": "1", "Type": "String"}),
        "put again": lambda: ssm.put_parameter(context, {"Name": NAME, "Value": "2", "Type": "String", "Overwrite": True}),
        "put a secret": lambda: ssm.put_parameter(context, {"Name": NAME, "Value": "3", "Type": "SecureString", "Overwrite": True}),
        "label": lambda: ssm.label_parameter_version(context, NAME, ["l"]),
        "delete": lambda: ssm.delete_parameter(context, NAME),
    }
    found = []
    with (
        mock.patch.object(provider, "connect_to", lambda **_: Clients()),
        mock.patch.object(provider, "is_api_enabled", lambda _: True),
        mock.patch.object(provider, "call_moto", lambda *_, **__: {}),
    ):
        for operation, call in operations.items():
            sent.clear()
            call()
            found += [{"operation": operation, "entry": {**entry, "Detail": json.loads(entry["Detail"])}} for entry in sent]
    return found


def enter_venv() -> None:
    """Goes on in a virtual environment of its own, made first where it is missing or not of these requirements."""
    python, mark = VENV / "bin" / "python", VENV / "requirements.txt"
    if not mark.exists() or mark.read_text() != REQUIREMENTS.read_text():
        print("installing LocalStack's code (a minute or two)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS]
        if subprocess.run(install).returncode != 0:
            sys.exit(f"error: {REQUIREMENTS} could not be installed: this check needs PyPI")
        mark.write_text(REQUIREMENTS.read_text())
    os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    sys.exit(main())
