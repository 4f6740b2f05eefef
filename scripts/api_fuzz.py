"""schemathesis: the REST APIs of a running stack against their own OpenAPI documents.

For both services: requests that the document allows and requests that it forbids, made from it with a fixed seed, and every
answer held against it (status, content type, headers, body, tokens, methods). As a user with the role writer of a tenant of its
own, which is removed afterwards with all that was written. A finding is a failure, and is printed with its request.

Run with the virtual environment's Python: `api_fuzz.py --state-dir DIR`. The last line is `N passed, N failed`: one for each
operation of each document.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.parse
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "localstack"))

import bootstrap  # noqa: E402
from launcher import aws, network, running  # noqa: E402
from launcher.errors import StackError  # noqa: E402
from launcher.layout import SHARED, Layout  # noqa: E402
from launcher.settings import Settings  # noqa: E402

HERE = Path(__file__).resolve().parent / "schemathesis"
DOCUMENTS = {
    "order-service": REPOSITORY / "services" / "order-service" / "openapi.yaml",
    "config-service": REPOSITORY / "services" / "config-service" / "openapi.yaml",
}
"""In this order: orders need the configuration that the second run overwrites."""
SEED = "17"
EXAMPLES = "40"
TIMEOUT_SECONDS = 120
PRICES = {
    "tenant_config_pricing": {"currency": "EUR", "discountPercent": "10"},
    "tenant_config_orderLimits": {"maxLines": 50, "maxQuantity": 1000},
    "tenant_config_featureFlagX": {"enabled": True, "variant": "treatment"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--state-dir", type=Path, help="the stack's folder")
    arguments = parser.parse_args()
    stack = running.require_ready(Layout(arguments.state_dir.resolve()) if arguments.state_dir else SHARED)
    python = bootstrap.ensure(HERE / "requirements.txt", bootstrap.LOCAL / "schemathesis")
    addresses = {
        "config-service": f"http://{stack.config[0].http_address}",
        "order-service": f"http://{stack.order.http_address}",
    }
    passed = failed = 0
    with user(stack, addresses["config-service"]) as token:
        for service, document in DOCUMENTS.items():
            print(f"--- {service}", flush=True)
            ran, found = check(python, document, addresses[service], token)
            passed, failed = passed + ran - found, failed + found
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def check(python: Path, document: Path, address: str, token: str) -> tuple[int, int]:
    """Operations that were tried, and those of which something was found. A run that does not end well is one finding at least."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [
            str(python.with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml"), "run", str(document),
            "--url", address, "--header", f"Authorization: Bearer {token}", "--checks", "all",
            "--phases", "examples,coverage,fuzzing,stateful", "--seed", SEED, "--max-examples", EXAMPLES,
            "--generation-database", "none", "--request-timeout", "10", "--continue-on-failure",
            "--no-color", "--report-junit-path", str(report),
        ]
        # Loopback: never through a proxy of the shell's.
        environment = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}
        result = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=TIMEOUT_SECONDS)
        return counted(report, result.returncode)


def counted(report: Path, status: int) -> tuple[int, int]:
    cases = list(xml.parse(report).iter("testcase")) if report.exists() else []
    found = sum(1 for case in cases if case.find("failure") is not None or case.find("error") is not None)
    if status != 0 and found == 0:
        found = 1
    return max(len(cases), found), found


@contextlib.contextmanager
def user(stack: Settings, config: str) -> Iterator[str]:
    """The token of a user of a tenant of its own, whose orders can be priced."""
    name = f"fuzz-{secrets.token_hex(6)}"
    email = f"{name}@example.com"
    pool = stack.output("user_pool_id")
    cognito = aws.client(stack, "cognito-idp")
    attributes = {"email": email, "email_verified": "true", "custom:tenantId": name, "custom:userRole": "writer"}
    cognito.admin_create_user(
        UserPoolId=pool, Username=email, MessageAction="SUPPRESS",
        UserAttributes=[{"Name": key, "Value": value} for key, value in attributes.items()],
    )
    try:
        cognito.admin_set_user_password(UserPoolId=pool, Username=email, Password=stack.password, Permanent=True)
        token = aws.sign_in(stack, email)
        for key, value in PRICES.items():
            call(config, token, "PUT", f"/v1/config/{key}", value)
        try:
            yield token
        finally:
            remove_all(config, token)
    finally:
        cognito.admin_delete_user(UserPoolId=pool, Username=email)


def remove_all(config: str, token: str) -> None:
    """Deletes every key of the tenant."""
    while keys := listed(config, token):
        for key in keys:
            call(config, token, "DELETE", f"/v1/config/{urllib.parse.quote(key, safe='')}")


def listed(config: str, token: str) -> list[str]:
    page = json.loads(call(config, token, "GET", "/v1/config?prefix=tenant_config_&page_size=100"))
    return [entry["key"] for entry in page["entries"] + page["errors"]]


def call(config: str, token: str, method: str, path: str, body: dict | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {token}"}
    status, answer = network.request(config + path, method=method, headers=headers, body=body)
    if status not in (200, 201):
        raise StackError(f"{method} {path}: {status} {answer[:200].decode(errors='replace')}")
    return answer


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (StackError, bootstrap.BootstrapError, subprocess.TimeoutExpired) as problem:
        print(f"FAIL  {problem}\n0 passed, 1 failed")
        sys.exit(1)
