"""The servers under test: the floors, config-service and order-service, the same service on NestJS, and the emulator below them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from launcher import emulator, network, processes
from launcher.layout import CACHE, REPOSITORY, cargo_target

from .clients import run
from .issuer import AUDIENCE, ISSUER
from .rows import BenchError

BASELINE = Path(__file__).resolve().parents[1] / "baseline"
TABLE = "TenantConfigurations"
PARAMETER_ROOT = "/tagged-config/config"
CALLERS = 4
SIZES = {"200 B": 200, "4 KB": 4096}
KEYS = {name: f"tenant_config_service/feature-{size:04}" for name, size in SIZES.items()}
"""The keys that the callers read."""
PRICING = {
    "pricing": {"currency": "EUR", "discountPercent": "10"},
    "orderLimits": {"maxLines": 20, "maxQuantity": 100},
    "featureFlagX": {"enabled": True, "variant": "treatment"},
}


@dataclass
class Server:
    """One of those that are compared: its ports and processes by the size of a value, and the size of its answers."""

    name: str
    port: dict[str, int]
    pid: dict[str, int]
    answer_bytes: dict[str, int] = field(default_factory=dict)


class Servers:
    """Starts the servers. `stack` ends them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, jwks: str, tenants: int) -> None:
        self._folder, self._stack, self._jwks, self._tenants = folder, stack, jwks, tenants
        self._emulator_url = ""
        self._logs: dict[int, str] = {}
        self.service_environment: dict[str, str] = {}
        self.credential = base64.b64encode(os.urandom(32)).decode()
        self.http_port, self.refresh_port, self.order_port = (network.free_port() for _ in range(3))

    def emulator(self) -> None:
        port = network.free_port()
        self._emulator_url = f"http://127.0.0.1:{port}"
        self._spawn([sys.executable, str(REPOSITORY / "localstack" / "emulator.py")], emulator.environment(port, self._folder))
        if not processes.wait_until(lambda: network.request(f"{self._emulator_url}/_ministack/health")[0] == 200, 60):
            raise BenchError("the emulator does not start")

    def seed(self) -> None:
        """100 keys for each tenant, what orders are priced from, and the callers' keys in the baseline's form: the whole key."""
        import boto3
        from botocore.config import Config

        place = {"endpoint_url": self._emulator_url, "region_name": "us-east-1", "config": Config(proxies={})}
        client = boto3.client("dynamodb", **place, aws_access_key_id="test", aws_secret_access_key="test")
        client.create_table(
            TableName=TABLE, BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
        )
        rows = [(tenant(number), name, "x" * size_of(name)) for number in range(self._tenants) for name in names(number)]
        for number in range(CALLERS):
            rows += [(tenant(number), key, "x" * SIZES[size]) for size, key in KEYS.items()]
            rows += [(tenant(number), name, json.dumps(value)) for name, value in PRICING.items()]
        for at in range(0, len(rows), 25):
            client.batch_write_item(RequestItems={TABLE: [
                {"PutRequest": {"Item": {
                    "PK": {"S": f"TENANT#{owner}"}, "SK": {"S": f"CONFIG#{name}"}, "configValue": {"S": value},
                }}}
                for owner, name, value in rows[at:at + 25]
            ]})
        parameters = boto3.client("ssm", **place, aws_access_key_id="test", aws_secret_access_key="test")
        for name, value in {"tax/rate": "0.19", "currency/default": '"USD"'}.items():
            parameters.put_parameter(Name=f"{PARAMETER_ROOT}/global/{name}", Value=value, Type="String")

    def floor(self) -> Server:
        ports = {size: network.free_port() for size in SIZES}
        program = str(cargo_target() / "floor" / "tonic-floor")
        pids = {size: self._spawn([program, f"127.0.0.1:{ports[size]}", str(SIZES[size])], {}) for size in SIZES}
        return Server("floor", ports, pids)

    def rest_floor(self, order_bytes: int, entry_bytes: int) -> tuple[int, int]:
        """Starts the bare axum server. Returns its port and its process."""
        port = network.free_port()
        program = cargo_target() / "floor" / "axum-floor"
        pid = self._spawn([str(program), f"127.0.0.1:{port}", str(order_bytes), str(entry_bytes)], {})
        self._wait("the bare axum server", pid, lambda: network.bind_problem("127.0.0.1", port) is not None)
        return port, pid

    def service(self) -> Server:
        self.service_environment = {
            "TAGGED_CONFIG_JWKS_URL": self._jwks,
            "TAGGED_CONFIG_ISSUER": ISSUER,
            "TAGGED_CONFIG_AUDIENCE": AUDIENCE,
            "TAGGED_CONFIG_TABLE": TABLE,
            "TAGGED_CONFIG_PARAMETER_ROOT": PARAMETER_ROOT,
            "TAGGED_CONFIG_CACHE_TTL": "2h",
            "TAGGED_CONFIG_MAX_STALE": "2h",
            "TAGGED_CONFIG_CACHE_BYTES": str(512 * 1024 * 1024),
            "TAGGED_CONFIG_REFRESH_CREDENTIAL": self.credential,
        } | self._aws()
        port = network.free_port()
        places = listeners(port, self.http_port, self.refresh_port)
        pid = self._spawn([str(program_of("config-service"))], self.service_environment | places)
        self._wait("config-service", pid, lambda: network.request(f"http://127.0.0.1:{self.http_port}/readyz")[0] == 200)
        return Server("config-service", dict.fromkeys(SIZES, port), dict.fromkeys(SIZES, pid))

    def order_service(self, service: Server) -> int:
        """Starts order-service. Returns its process."""
        pid = self._spawn([str(program_of("order-service"))], {
            "TAGGED_CONFIG_HTTP_ADDR": f"127.0.0.1:{self.order_port}",
            "TAGGED_CONFIG_JWKS_URL": self._jwks,
            "TAGGED_CONFIG_ISSUER": ISSUER,
            "TAGGED_CONFIG_AUDIENCE": AUDIENCE,
            "TAGGED_CONFIG_ENDPOINTS": f"http://127.0.0.1:{service.port['200 B']}",
        })
        self._wait("order-service", pid, lambda: network.request(f"http://127.0.0.1:{self.order_port}/readyz")[0] == 200)
        return pid

    def baseline(self, program: Path) -> Server:
        port = network.free_port()
        pid = self._spawn(["node", str(program)], {
            "PATH": os.environ["PATH"], "GRPC_PORT": str(port), "JWKS_URI": self._jwks, "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE, "TABLE_NAME": TABLE, "CACHE_TTL_SECONDS": "7200",
            "PROTO_PATH": str(program.parent.parent / "proto" / "config.proto"),
        } | self._aws())
        self._wait("the NestJS service", pid, lambda: network.bind_problem("127.0.0.1", port) is not None)
        return Server("NestJS", dict.fromkeys(SIZES, port), dict.fromkeys(SIZES, pid))

    def log(self, pid: int) -> str:
        return Path(self._logs[pid]).read_text()[-2000:]

    def _aws(self) -> dict[str, str]:
        return {
            "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self._emulator_url,
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }

    def _wait(self, name: str, pid: int, is_there: Callable[[], bool]) -> None:
        if not processes.wait_until(is_there, 20):
            raise BenchError(f"{name} does not start:\n{self.log(pid)}")

    def _spawn(self, command: list[str], environment: dict[str, str]) -> int:
        log = open(self._folder / f"{Path(command[0]).name}-{time.monotonic_ns()}.log", "w")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._logs[process.pid] = log.name

        def stop() -> None:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()

        self._stack.callback(stop)
        return process.pid


def build_baseline(say: Callable[[str], None]) -> Path | None:
    """The NestJS service in one file, built where it does not litter the repository; None without Node."""
    if not shutil.which("npm") or not shutil.which("node"):
        say("NestJS is left out: node and npm are not installed")
        return None
    work = CACHE / "bench-baseline"
    program = work / "dist" / "server.mjs"
    newest = max(file.stat().st_mtime for file in BASELINE.rglob("*") if file.is_file())
    if not program.exists() or program.stat().st_mtime < newest:
        say("building the NestJS service")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(BASELINE, work)
        run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], work)
        run(["npm", "run", "build"], work)
    return program


def listeners(grpc: int, http_port: int, refresh: int) -> dict[str, str]:
    return {
        "TAGGED_CONFIG_GRPC_ADDR": f"127.0.0.1:{grpc}",
        "TAGGED_CONFIG_REFRESH_ADDR": f"127.0.0.1:{refresh}",
        "TAGGED_CONFIG_HTTP_ADDR": f"127.0.0.1:{http_port}",
    }


def program_of(service: str) -> Path:
    return cargo_target() / "release" / service


def tenant(number: int) -> str:
    return f"tenant-{number:05}"


def names(number: int) -> list[str]:
    """A tenant's keys without their tag; the callers' tenants have the measured ones among them."""
    measured = [key.removeprefix("tenant_config_") for key in KEYS.values()] if number < CALLERS else []
    return [*measured, *(f"service/setting-{count:04}" for count in range(100 - len(measured)))]


def size_of(name: str) -> int:
    """The measured keys say it; of the others every other one is large."""
    number = int(name[-4:])
    return number if "/feature-" in name else list(SIZES.values())[number % 2]
