"""The process: its memory, its start, and what is measured inside it."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from launcher import network

from .clients import grpc, hits, run, text
from .machine import rss_mib
from .rows import BenchError, Result
from .servers import CALLERS, KEYS, SERVICE, listeners, program_of, tenant
from .setup import Setup, requested, say

SOAK_ROUND = 10
"""Seconds of the soak after which other tokens, tenants, keys and watchers come."""
STARTS = 7


class Process:
    """Measures config-service's process and adds its rows."""

    def __init__(self, setup: Setup, result: Result) -> None:
        self._setup, self._result = setup, result
        section = "memory under load"
        values = [result.turns.values(section, SERVICE, figure) for figure in ("rss_mib", "cached_mib")]
        row = result.state("memory", "under load, to what is cached", [used / cached for used, cached in zip(*values)], "<=", 1.3)
        say(f"memory under load: {statistics.median(values[0]):.0f} MiB, {row.mine:.2f} times what is cached")

    def soak(self, length: int) -> None:
        """Memory in the second and third tenth of the time and in the last fifth, while tokens, tenants, signing keys and watchers
        come and go. The samples of one run depend on each other: the interval says nothing of other runs."""
        setup, service = self._setup, self._setup.service
        begun = time.monotonic()
        samples: list[tuple[float, float]] = []
        known = {"tokens": 0, "tenants": 0, "keys": 0, "watches": 0}
        setup.check(service)
        while (spent := time.monotonic() - begun) < length:
            samples.append((spent, rss_mib(service.pid["200 B"])))
            self._result.turns.take("soak", len(samples), SERVICE, lambda: {"rss_mib": samples[-1][1]})
            say(f"soak: {samples[-1][1]:.1f} MiB, {length - spent:.0f} s to go; {known}")
            # New tenants with new tokens of a new signing key, half of them forged, for what they do not have.
            strangers = setup.callers.strangers(
                "strangers", 600, kid=setup.issuer.rotate(), prefix=f"stranger-{known['keys']:04}",
            )
            address = f"127.0.0.1:{service.port['200 B']}"
            hits(strangers, 200, 3, 0, ["--grpc", address, "--key", "tenant_config_none"], expected=("NOT_FOUND", "UNAUTHENTICATED"))
            known["tokens"], known["tenants"], known["keys"] = known["tokens"] + 600, known["tenants"] + 300, known["keys"] + 1
            known["watches"] += self._watch()
            end = spent + SOAK_ROUND
            while time.monotonic() - begun < end:
                setup.callers.ask(service, "200 B", 80_000)
        early = [memory for at, memory in samples if length * 0.1 <= at <= length * 0.3]
        late = [memory for at, memory in samples if at >= length * 0.8]
        pairs = [after / before for before, after in zip(early, late)]
        self._result.state("memory", f"in the last fifth of {length} s of churn, to the second and third tenth", pairs, "<=", 1.05)
        self._result.statements.append(f"the churn had {', '.join(f'{count:,} {what}' for what, count in known.items())}")

    def starts(self) -> None:
        """Milliseconds from exec to the first answer to a verified token, and the memory of the process when it then idles."""
        times, memory = [], []
        bearer = self._setup.callers.bearers()[0]
        for number in range(STARTS):
            say(f"start {number + 1} of {STARTS}")
            port = network.free_port()
            settings = {"PATH": os.environ["PATH"]} | self._setup.servers.service_environment | listeners(network.free_port(), port, network.free_port())
            started = time.perf_counter()
            command = self._setup.servers.processors.for_server([str(program_of("config-service"))])
            process = subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                while requested(port, "GET", f"/v1/config/{KEYS['200 B']}", bearer)[0] != 200:
                    if time.perf_counter() - started > 10:
                        raise BenchError("config-service does not answer after its start")
                    time.sleep(0.001)
                times.append((time.perf_counter() - started) * 1_000)
                time.sleep(0.5)
                memory.append(rss_mib(process.pid))
            finally:
                process.kill()
                process.wait()
        self._result.state("memory", "idle, MiB", memory, "<=", 25)
        self._result.state("start", "first answer, ms after exec", times, "<=", 100)

    def _watch(self) -> int:
        """Opens WatchConfig calls of all callers and abandons them. Returns their number."""
        setup = self._setup
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda number: grpc(
                setup.service.port["200 B"], "WatchConfig", text(1, KEYS["200 B"]), setup.issuer.caller(tenant(number)),
                ["-D", "2", "-c", "1", "-m", "100"],
            ), range(CALLERS)))
        return CALLERS * 100


def inside(result: Result, runs: int) -> None:
    """What cannot be measured from outside. Each run is a process of its own."""
    found: dict[str, list[float]] = {}
    for number in range(runs):
        say(f"inside the process (cargo bench --bench limits), run {number + 1} of {runs}")
        output = run(["cargo", "bench", "--locked", "-p", "config-service", "--bench", "limits"])
        for line in output.splitlines():
            if re.fullmatch(r"[a-z0-9_]+ [0-9.]+", line):
                name, value = line.split()
                found.setdefault(name, []).append(float(value))
    section = "inside the process, one thread"
    result.state(section, "full verification of a token, us", found["verification_us"], "<=", 60)
    result.state(section, f"calls for {found['cold_key_readers'][0]:,.0f} readers of a cold key", found["cold_key_calls"], "<=", 1)
    growth = [large / small for large, small in zip(found["hit_ns_1m"], found["hit_ns_1k"])]
    result.state(section, "a look-up in the cache, 1M entries, to 1k", growth)
