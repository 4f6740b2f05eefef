"""The callers: four tenants, each with its own token and its own connections. Each method makes one measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .clients import Answers, checked, grpc, h2load, hits, redis_get, text
from .issuer import Issuer
from .machine import Processors, cpu_seconds
from .peers import redis_hits
from .rows import BenchError
from .servers import CALLERS, KEYS, SIZES, RestServer, Server, tenant
from .turns import Figures

STREAMS = 16
"""Requests in flight on each connection of a gRPC caller, at saturation."""
REST_CONNECTIONS = 16
"""Connections of each REST caller, at saturation, with one request in flight on each."""
OPEN_CONNECTIONS = 8
"""Connections of the open loop, for all callers together. Each uses the token of one caller."""
WARM_UP = 0.5
"""Seconds of an open loop that are not measured."""


class Callers:
    """Sends the requests of a measurement, and checks each answer."""

    def __init__(self, issuer: Issuer, folder: Path, tenants: int, processors: Processors) -> None:
        self._issuer, self._folder, self._tenants = issuer, folder, tenants
        # A thread that never sleeps would take the server's time if they shared a processor.
        self._spin = ["--spin"] if processors.are_apart else []
        self._rates: dict[tuple[str, str], float] = {}

    # === saturation ===

    def ask(self, server: Server, size: str, requests: int) -> tuple[float, float]:
        """Sends this many GetConfig requests from all callers together, at saturation. Returns the requests a second, and the
        server's processor time for each in microseconds."""
        options = ["-n", str(max(STREAMS, requests // CALLERS)), "-c", "1", "-m", str(STREAMS)]
        return self._together(server.pid[size], lambda number: checked(grpc(
            server.port[size], "GetConfig", text(1, KEYS[size]), self._issuer.caller(tenant(number)), options,
        ), server.answer_bytes[size]))

    def ask_rest(self, server: RestServer, requests: int) -> tuple[float, float]:
        """The same over HTTP/1."""
        options = ["--h1", "-n", str(max(REST_CONNECTIONS, requests // CALLERS)), "-c", str(REST_CONNECTIONS), "-m", "1"]
        # The age of an entry, and a price's currency, may have a digit more or less.
        return self._together(server.pid, lambda number: checked(h2load(
            f"http://127.0.0.1:{server.port}{server.path}", server.authorizations[number], options,
            body=server.body, kind="application/json",
        ), server.answer_bytes, slack=8))

    def saturation(self, server: Server, size: str, seconds: float) -> Figures:
        """A measurement of about this many seconds."""
        return self._turn((server.name, size), lambda requests: self.ask(server, size, requests), seconds)

    def rest_saturation(self, server: RestServer, seconds: float) -> Figures:
        return self._turn((server.name, server.path), lambda requests: self.ask_rest(server, requests), seconds)

    def redis_saturation(self, program: str, port: int, pid: int, pipelined: int, seconds: float) -> Figures:
        """GETs as redis-benchmark sends them: `pipelined` in each write, and as many in flight in all as over gRPC."""

        def ask(requests: int) -> tuple[float, float]:
            before, (found, missed) = cpu_seconds(pid), redis_hits(port)
            # redis-benchmark sends whole pipelines.
            requests = math.ceil(requests / pipelined) * pipelined
            rate = redis_get(program, port, KEYS["200 B"], requests, STREAMS * CALLERS // pipelined, pipelined)
            now_found, now_missed = redis_hits(port)
            if now_found - found < requests or now_missed != missed:
                raise BenchError(f"of {requests} GETs the Redis server found {now_found - found} and missed {now_missed - missed}")
            return rate, (cpu_seconds(pid) - before) * 1e6 / (now_found - found)

        return self._turn(("redis", str(pipelined)), ask, seconds)

    def _turn(self, key: tuple[str, str], ask: Callable[[int], tuple[float, float]], seconds: float) -> Figures:
        """Sends as many requests as take this many seconds. Shorter runs before it find their number, and warm up."""
        if key not in self._rates:
            rate, _ = ask(4_000)
            # JIT-compiled servers are slower at first.
            for _ in range(2):
                rate, _ = ask(round(rate * seconds / 2))
            self._rates[key] = rate
        rate, cpu_us = ask(round(self._rates[key] * seconds))
        return {"per_second": rate, "cpu_us": cpu_us}

    def _together(self, pid: int, send: Callable[[int], Answers]) -> tuple[float, float]:
        before = cpu_seconds(pid)
        with ThreadPoolExecutor(CALLERS) as pool:
            runs = list(pool.map(send, range(CALLERS)))
        requests = sum(one.requests for one in runs)
        # Each client's own rate: the wall clock has the start of four processes in it.
        return sum(one.per_second for one in runs), (cpu_seconds(pid) - before) * 1e6 / requests

    # === open loop ===

    def tail(self, server: Server, size: str, rate: float, seconds: float, options: Sequence[str] = (), **environment: str) -> Figures:
        """A measurement in an open loop over gRPC."""
        target = ["--grpc", f"127.0.0.1:{server.port[size]}", "--key", KEYS[size], *options]
        return self._open(server.pid[size], self.tokens(), rate, seconds, SIZES[size], target, **environment)

    def rest_tail(self, server: RestServer, rate: float, seconds: float) -> Figures:
        """A measurement in an open loop over HTTP/1."""
        target = ["--url", f"http://127.0.0.1:{server.port}{server.path}", "--as-it-is"]
        if server.body is not None:
            body = self._folder / "body"
            body.write_bytes(server.body)
            target += ["--body", str(body)]
        file = self._folder / "authorizations"
        file.write_text("\n".join(server.authorizations))
        return self._open(server.pid, file, rate, seconds, server.answer_bytes - 8, target)

    def _open(self, pid: int, callers: Path, rate: float, seconds: float, least_bytes: int, target: Sequence[str], **environment: str) -> Figures:
        rate, before = round(rate), cpu_seconds(pid)
        options = ["--connections", str(OPEN_CONNECTIONS), *self._spin]
        found = hits(callers, rate, seconds, least_bytes, [*target, *options], warm_up=WARM_UP, **environment)
        return {
            "rate": rate, "p50_us": found.p50_us, "p99_us": found.p99_us, "lag_p50_us": found.lag_p50_us, "lag_p99_us": found.lag_p99_us,
            "cpu_us": (cpu_seconds(pid) - before) * 1e6 / (rate * (seconds + WARM_UP)), "rewritten": found.rewritten,
        }

    # === tokens ===

    def tokens(self) -> Path:
        """A file with the token of each caller."""
        file = self._folder / "callers"
        if not file.exists():
            file.write_text("\n".join(self._issuer.caller(tenant(number)) for number in range(CALLERS)))
        return file

    def bearers(self) -> list[str]:
        return [f"Bearer {self._issuer.caller(tenant(number))}" for number in range(CALLERS)]

    def strangers(self, file: str, count: int, *, prefix: str = "tenant", **key: str) -> Path:
        """Writes a file of new tokens, of all tenants, every other one forged."""
        path = self._folder / file
        path.write_text("\n".join(
            self._issuer.token(f"{prefix}-{number % self._tenants:05}", forged=number % 2 == 0, **key) for number in range(count)
        ))
        return path
