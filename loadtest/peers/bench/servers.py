"""The servers under test: the floors, config-service and order-service, the peers, and the emulator below them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher import emulator, network, processes
from launcher.layout import REPOSITORY, cargo_target

from .issuer import AUDIENCE, ISSUER
from .machine import Processors
from .peers import redis_command
from .rows import BenchError

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


SERVICE = "config-service"
STRONG_FLOOR = "strong floor"
PLAIN_TONIC = "default tonic"
NESTJS = "default NestJS"
TUNED_NESTJS = "tuned NestJS"
EDGE = "Unleash Edge"
AXUM = "default axum"
EDGE_TOKENS = [f"*:production.{number:064x}" for number in range(1, 5)]
"""One for each caller: all projects of one environment."""


@dataclass
class Server:
    """One of those that are compared: its ports and processes by the size of a value, and the size of its answers."""

    name: str
    port: dict[str, int]
    pid: dict[str, int]
    answer_bytes: dict[str, int] = field(default_factory=dict)
    verifies_tokens: bool = True


@dataclass(frozen=True)
class RestServer:
    """A server over HTTP/1: the request to it, and the size of its answer."""

    name: str
    port: int
    pid: int
    path: str
    body: bytes | None
    answer_bytes: int
    authorizations: Sequence[str]
    """The value of the header for each caller."""


class Servers:
    """Starts the servers. `stack` ends them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, jwks: str, tenants: int, processors: Processors) -> None:
        self._folder, self._stack, self._jwks, self._tenants, self.processors = folder, stack, jwks, tenants, processors
        self._emulator_url = ""
        self._logs: dict[int, str] = {}
        self.service_environment: dict[str, str] = {}
        self.credential = base64.b64encode(os.urandom(32)).decode()
        self.http_port, self.refresh_port, self.order_port = (network.free_port() for _ in range(3))

    def emulator(self) -> None:
        port = network.free_port()
        self._emulator_url = f"http://127.0.0.1:{port}"
        command = [sys.executable, str(REPOSITORY / "localstack" / "emulator.py")]
        self._spawn(command, emulator.environment(port, self._folder), is_measured=False)
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

    def floor(self, name: str) -> Server:
        """The strong floor, or default tonic: a process for each size of a value."""
        program = str(cargo_target() / "floor" / {STRONG_FLOOR: "tonic-floor", PLAIN_TONIC: "tonic-plain"}[name])
        ports = {size: network.free_port() for size in SIZES}
        pids = {size: self._spawn([program, f"127.0.0.1:{ports[size]}", str(SIZES[size])], {}) for size in SIZES}
        for size in SIZES:
            self._wait(f"the {name}", pids[size], lambda: is_listening(ports[size]))
        return Server(name, ports, pids, verifies_tokens=False)

    def rest_floor(self, order_bytes: int, entry_bytes: int) -> tuple[int, int]:
        """Starts the bare axum server. Returns its port and its process."""
        port = network.free_port()
        program = cargo_target() / "floor" / "axum-floor"
        pid = self._spawn([str(program), f"127.0.0.1:{port}", str(order_bytes), str(entry_bytes)], {})
        self._wait("the bare axum server", pid, lambda: is_listening(port))
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
        return Server(SERVICE, dict.fromkeys(SIZES, port), dict.fromkeys(SIZES, pid))

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

    def nestjs(self, program: Path, name: str) -> Server:
        """The service on NestJS: default (one process, each token verified), or tuned (a process for each of the server's
        processors, verified tokens cached, production mode)."""
        port = network.free_port()
        tuning = {"WORKERS": str(len(self.processors.server)), "VERIFIED_TOKEN_CACHE": "10000", "NODE_ENV": "production"}
        pid = self._spawn(["node", str(program)], {
            "PATH": os.environ["PATH"], "GRPC_PORT": str(port), "JWKS_URI": self._jwks, "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE, "TABLE_NAME": TABLE, "CACHE_TTL_SECONDS": "7200",
            "PROTO_PATH": str(program.parent.parent / "proto" / "config.proto"),
        } | self._aws() | (tuning if name == TUNED_NESTJS else {}))
        self._wait(name, pid, lambda: is_listening(port))
        return Server(name, dict.fromkeys(SIZES, port), dict.fromkeys(SIZES, pid))

    def edge(self, program: Path) -> tuple[int, int]:
        """Unleash Edge in offline mode, with a tenant's keys as flags. Returns its port and its process."""
        features = self._folder / "features.json"
        features.write_text(json.dumps({"version": 2, "features": [feature(name) for name in names(0)]}))
        port = network.free_port()
        tokens = ",".join(EDGE_TOKENS)
        pid = self._spawn([
            str(program), "--interface", "127.0.0.1", "--port", str(port), "offline", "--bootstrap-file", str(features),
            "--client-tokens", "*:production.client", "--frontend-tokens", tokens,
        ], {"RUST_LOG": "warn"})
        self._wait(EDGE, pid, lambda: is_listening(port))
        return port, pid

    def redis(self, program: str, key: str) -> tuple[int, int]:
        """A Redis or Valkey server with the sample's value, which writes nothing to disk. Returns its port and its process."""
        port = network.free_port()
        pid = self._spawn([program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"], {})
        self._wait(program, pid, lambda: is_listening(port))
        redis_command(port, "SET", key, "x" * SIZES["200 B"])
        return port, pid

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

    def _spawn(self, command: list[str], environment: dict[str, str], *, is_measured: bool = True) -> int:
        if is_measured:
            command = self.processors.for_server(command)
            environment = {"PATH": os.environ["PATH"]} | environment
        log = open(self._folder / f"{len(self._logs)}-{time.monotonic_ns()}.log", "w")
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


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def feature(name: str) -> dict[str, object]:
    """A key as a flag of Unleash: always on, with one variant that carries the value."""
    payload = {"type": "string", "value": "x" * size_of(name)}
    return {
        "name": name.replace("/", "."), "type": "release", "enabled": True, "project": "default",
        "strategies": [{"name": "default", "parameters": {}}],
        "variants": [{"name": "value", "weight": 1000, "weightType": "fix", "stickiness": "default", "payload": payload}],
    }


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
