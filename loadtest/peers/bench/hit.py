"""A cache hit over gRPC: at saturation, at half of each server's own capacity, and under disturbances."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from .clients import hits
from .machine import rss_mib
from .rows import BenchError, Result
from .servers import CALLERS, PLAIN_TONIC, SERVICE, SIZES, STRONG_FLOOR, TUNED_NESTJS, tenant
from .setup import Setup, say
from .turns import Figures

TAIL_RATE = 5_000
"""Requests a second where a hit is disturbed."""
FLOOD = 2_000
"""New tokens a second."""
REDIS = {"Redis GET": 1, "Redis GET, 16 pipelined": 16}
"""How many requests redis-benchmark writes together."""
HALF = "half of its own capacity"


class Hit:
    """Measures the hit and adds its rows."""

    def __init__(self, setup: Setup, result: Result, rounds: int, seconds: float) -> None:
        self._setup, self._result, self._rounds, self._seconds = setup, result, rounds, seconds
        self._servers = [setup.service, *setup.others]

    def measure(self) -> None:
        for size in SIZES:
            self._saturation(size)
        self._half()
        self._disturbed()

    def _saturation(self, size: str) -> None:
        section, callers, seconds = f"GetConfig, {size}, 64 requests in flight", self._setup.callers, self._seconds
        turns: dict[str, Callable[[], Figures]] = {
            server.name: partial(callers.saturation, server, size, seconds) for server in self._servers
        }
        if self._setup.redis and size == "200 B":
            for name, pipelined in REDIS.items():
                turns[name] = partial(callers.redis_saturation, *self._setup.redis, pipelined, seconds)
        self._warm(section, turns)
        service = self._setup.service
        memory = "memory under load"
        for number in range(self._rounds):
            self._result.turns.play(section, turns, number)
            self._result.turns.take(memory, number, SERVICE, lambda: {
                "rss_mib": rss_mib(service.pid[size]), "cached_mib": self._setup.metric("config_cache_bytes") / 1024**2,
            })
        for other in [name for name in turns if name != SERVICE]:
            is_floor = other == STRONG_FLOOR
            self._result.compare(section, "per_second", SERVICE, other, f"requests/s, to {other}", *((">=", 0.85) if is_floor else ()))
            self._result.compare(section, "cpu_us", SERVICE, other, f"CPU us/request, to {other}", *(("<=", 1.20) if is_floor else ()))
        self._result.best(section, SERVICE, [TUNED_NESTJS])

    def _half(self) -> None:
        """The tail of each server at half of its rate at saturation."""
        saturation, section = "GetConfig, 200 B, 64 requests in flight", f"GetConfig, 200 B, at {HALF}"
        rates = {
            server.name: statistics.median(self._result.turns.values(saturation, server.name, "per_second")) / 2 for server in self._servers
        }
        turns = {
            server.name: partial(self._setup.callers.tail, server, "200 B", rates[server.name], self._seconds * 1.5)
            for server in self._servers
        }
        for number in range(self._rounds):
            self._result.turns.play(section, turns, number)
        for other in [name for name in turns if name != SERVICE]:
            wanted = ("<=", 1.25) if other == STRONG_FLOOR else ("", 0)
            # Where the client was the limit, half of that is not half of the server's capacity.
            doubt = self._result.doubt(saturation, "per_second", SERVICE, other)
            self._result.compare(section, "p99_us", SERVICE, other, f"p99 us, to {other}", *wanted, doubt)
            if other in (STRONG_FLOOR, PLAIN_TONIC):
                self._result.compare(section, "p50_us", SERVICE, other, f"p50 us, to {other}")
                self._result.compare(section, "cpu_us", SERVICE, other, f"CPU us/request, to {other}")
        for server in self._servers:
            self._result.state(section, f"requests/s of {server.name}", self._result.turns.values(section, server.name, "rate"))
            self._result.state(section, f"lag of the load generator, p99 us, {server.name}", self._result.turns.values(section, server.name, "lag_p99_us"))

    def _disturbed(self) -> None:
        """The tail without disturbance, while a hot key is updated ten times a second, and during a flood of new tokens,
        every other one forged."""
        setup, seconds = self._setup, self._seconds
        section = f"GetConfig, 200 B, {TAIL_RATE:,}/s"
        say(f"signing {FLOOD * seconds * self._rounds / 2:,.0f} tokens")
        floods = [setup.callers.strangers(f"flood-{number}", math.ceil(FLOOD * seconds)) for number in range(self._rounds)]
        rewriting = [
            "--rewrite", f"127.0.0.1:{setup.servers.refresh_port}",
            "--rewritten-tenants", ",".join(tenant(number) for number in range(CALLERS)),
        ]
        for number, flood in enumerate(floods):
            self._result.turns.play(section, {
                "quiet": partial(self._counted, []),
                "hot key written 10/s": partial(self._counted, rewriting),
                f"{FLOOD:,} new tokens/s": partial(self._flooded, flood),
            }, number)
        self._result.compare(section, "p99_us", "hot key written 10/s", "quiet", "p99 us, hot key written 10/s, to quiet", "<=", 1.2)
        self._result.compare(section, "p99_us", f"{FLOOD:,} new tokens/s", "quiet", f"p99 us, {FLOOD:,} new tokens/s, to quiet", "<=", 2)

    def _counted(self, options: list[str], *, beside: Callable[[], int] = lambda: 0) -> Figures:
        """One open loop. The service must count what the clients say they sent."""
        setup, before = self._setup, self._reads()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(beside)
            figures = setup.callers.tail(
                setup.service, "200 B", TAIL_RATE, self._seconds, options, TAGGED_CONFIG_REFRESH_CREDENTIAL=setup.servers.credential,
            )
            sent = TAIL_RATE * (self._seconds + 0.5) + other.result()
        if options and figures["rewritten"] < 9 * self._seconds:
            raise BenchError(f"the hot key was written {figures['rewritten']:.0f} times in {self._seconds} s")
        if abs(counted := self._reads() - before - sent) > sent * 0.02:
            raise BenchError(f"{sent:,.0f} reads were sent, and config-service counted {counted:+,.0f}")
        return figures

    def _flooded(self, tokens: Path) -> Figures:
        """The tail during a flood: each token once, of all tenants, for cached keys."""

        def flood() -> int:
            target = ["--grpc", f"127.0.0.1:{self._setup.service.port['200 B']}", "--key", "tenant_config_service/setting-0000"]
            codes = hits(tokens, FLOOD, self._seconds, SIZES["200 B"], target, expected=("OK", "UNAUTHENTICATED")).codes
            if abs(codes["OK"] - codes["UNAUTHENTICATED"]) > 1:
                raise BenchError(f"every other token of the flood was good, and the answers were {codes}")
            return codes["OK"]

        return self._counted([], beside=flood)

    def _reads(self) -> float:
        return self._setup.metric(r'config_reads_total{[^}]*result="hit"[^}]*}')

    def _warm(self, section: str, turns: dict[str, Callable[[], Figures]]) -> None:
        for name, turn in turns.items():
            say(f"{section}, warm-up: {name}")
            turn()
