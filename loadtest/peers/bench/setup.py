"""Starts the emulator, the servers and the peers, and checks them before anything is measured."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher import network

from .callers import Callers
from .clients import grpc, text
from .issuer import Issuer
from .machine import Processors, version_of
from .peers import EDGE_CRATE, EDGE_VERSION, LeftOut, edge_program, nestjs_program, redis_programs
from .rows import BenchError, Result
from .servers import (
    CALLERS, EDGE, EDGE_TOKENS, KEYS, NESTJS, PLAIN_TONIC, SIZES, STRONG_FLOOR, TUNED_NESTJS, RestServer, Server, Servers, names, tenant,
)


class Setup:
    """Starts the servers and keeps their addresses."""

    def __init__(self, tenants: int, processors: Processors, folder: Path, stack: contextlib.ExitStack) -> None:
        self._tenants = tenants
        self.issuer = Issuer()
        self.servers = Servers(folder, stack, stack.enter_context(self.issuer.published()), tenants, processors)
        self.callers = Callers(self.issuer, folder, tenants, processors)
        self.service: Server
        self.others: list[Server] = []
        self.redis: tuple[str, int, int] | None = None
        """The load generator, the port and the process of the server."""
        self.edge: RestServer | None = None

    def start(self, result: Result) -> None:
        """Starts and checks everything, and fills the cache."""
        self.servers.emulator()
        self.servers.seed()
        self.service = self.servers.service()
        self.others = [self.servers.floor(STRONG_FLOOR), self.servers.floor(PLAIN_TONIC)]
        try:
            program = nestjs_program(say)
            self.others += [self.servers.nestjs(program, name) for name in (NESTJS, TUNED_NESTJS)]
        except LeftOut as why:
            result.left_out.append(str(why))
        try:
            redis, generator = redis_programs()
            self.redis = (generator, *self.servers.redis(redis, KEYS["200 B"]))
        except LeftOut as why:
            result.left_out.append(str(why))
        try:
            self.edge = self._edge(edge_program(say))
        except LeftOut as why:
            result.left_out.append(str(why))
        for server in (self.service, *self.others):
            self.check(server)
        result.about["answer_bytes"] = {server.name: server.answer_bytes for server in (self.service, *self.others)}
        self._fill()

    def check(self, server: Server) -> None:
        """Checks one answer of each size, and that a server that verifies tokens refuses a forged one."""
        for size, key in KEYS.items():
            def once(token: str) -> int:
                return grpc(server.port[size], "GetConfig", text(1, key), token, ["-n", "1", "-c", "1"]).data_bytes

            # The first answer is no hit, and says so. Each worker of a cluster has its own cache, and takes one connection after the other.
            for number in range(CALLERS):
                for _ in range(2 * len(self.servers.processors.server)):
                    once(self.issuer.caller(tenant(number)))
            server.answer_bytes[size] = once(self.issuer.caller(tenant(0)))
            if server.answer_bytes[size] < SIZES[size]:
                raise BenchError(f"{server.name} does not answer {key} with its value\n{self.servers.log(server.pid[size])}")
            if server.verifies_tokens and once(self.issuer.token(tenant(0), forged=True)):
                raise BenchError(f"{server.name} answers a forged token")

    def metric(self, name: str) -> float:
        """The sum of config-service's metrics that match."""
        text = network.request(f"http://127.0.0.1:{self.servers.http_port}/metrics")[1].decode()
        found = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
        if not found:
            raise BenchError(f"config-service has no metric {name}")
        return sum(map(float, found))

    def rest(self, name: str, port: int, pid: int, path: str, body: bytes | None = None) -> RestServer:
        """A REST interface of the services, after its cache is warm. It must refuse a forged token."""
        method = "GET" if body is None else "POST"
        refused, _ = requested(port, method, path, f"Bearer {self.issuer.token(tenant(0), forged=True)}", body)
        if refused != 401:
            raise BenchError(f"{method} {path} with a forged token was answered {refused}")
        bearers = self.callers.bearers()
        return RestServer(name, port, pid, path, body, answered(port, method, path, bearers, body), bearers)

    def _fill(self) -> None:
        """Reads every key of every tenant once, by BatchGetConfig."""
        say("filling the cache")

        def fill(number: int) -> None:
            body = b"".join(text(1, f"tenant_config_{name}") for name in names(number))
            grpc(self.service.port["200 B"], "BatchGetConfig", body, self.issuer.caller(tenant(number)), ["-n", "1", "-c", "1"])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(self._tenants)))
        entries, wanted = self.metric("config_cache_entries"), self._tenants * 100
        if entries < wanted:
            raise BenchError(f"the cache holds {entries:,.0f} of {wanted:,} entries")

    def _edge(self, program: Path) -> RestServer:
        port, pid = self.servers.edge(program)
        path = f"/api/frontend/features/{names(0)[0].replace('/', '.')}"
        for refused in ("*:production.unknown", ""):
            if (status := requested(port, "GET", path, refused)[0]) < 400:
                raise BenchError(f"{EDGE} answers the token {refused!r} with {status}")
        return RestServer(EDGE, port, pid, path, None, answered(port, "GET", path, EDGE_TOKENS, None), EDGE_TOKENS)


def versions() -> dict[str, str]:
    """Versions of the programs that the figures depend on."""
    programs = ("rustc", "h2load", "node", "redis-server", "valkey-server")
    found = {program: version_of(program, "--version") for program in programs if shutil.which(program)}
    return {**found, EDGE_CRATE: EDGE_VERSION, "python": sys.version.split()[0]}


def answered(port: int, method: str, path: str, authorizations: list[str], body: bytes | None) -> int:
    """The size of the answer, once each caller has had one."""
    for authorization in (*authorizations, authorizations[0]):
        status, answer = requested(port, method, path, authorization, body)
        if status != 200:
            raise BenchError(f"{method} {path} was answered {status}: {answer[:300]!r}")
    return len(answer)


def requested(port: int, method: str, path: str, authorization: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and the body of the answer; status 0 for no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body, {"authorization": authorization, "content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def say(line: str) -> None:
    print(f"... {line}", file=sys.stderr, flush=True)
