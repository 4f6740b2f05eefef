"""`make bench-peers`: config-service's cache hits beside the least that a tonic server can do (`floor/`) and beside the same
service on NestJS (`baseline/`), and the REST interfaces beside a bare axum server, in one run. Prints each ratio with what is
wanted of it; exits 1 unless all are met.

Each connection has a caller of its own: another tenant, another token (RS256, verified by both services). The servers are measured in
rounds, one after the other. Each figure is the median of the rounds. Everything shares this machine's processors: only ratios mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "localstack"))

import bootstrap  # noqa: E402

if not bootstrap.is_current() or Path(sys.prefix).resolve() != bootstrap.VENV.resolve():
    bootstrap.ensure()
    os.execv(bootstrap.PYTHON, [str(bootstrap.PYTHON), *sys.argv])

from bench.clients import Answers, cpu_seconds, grpc, h2load, hits, percentile, rss_mib, run, text  # noqa: E402
from bench.issuer import Issuer  # noqa: E402
from bench.rows import BenchError, Row, ratio, report  # noqa: E402
from bench.servers import (  # noqa: E402
    CALLERS, KEYS, SIZES, Server, Servers, build_baseline, listeners, names, program_of, tenant,
)
from launcher import network  # noqa: E402

STREAMS = 16
REST_CONNECTIONS = 16
"""Connections of each caller, at saturation."""
OPEN_CONNECTIONS = 10
"""Of each caller, at a constant rate: h2load lets requests go every 10 ms, so many connections make it even."""
TAIL_RATE = 5_000
"""Requests a second where two tails are compared: what the open loop can send beside the server on two processors without
being late itself."""
FLOOD = 2_000
"""New tokens a second."""
SOAK_ROUND = 10
"""Seconds of the soak after which other tokens, tenants, keys and watchers come."""
ORDER = b'{"lines":[{"sku":"book","quantity":2,"unitPrice":"19.99"},{"sku":"pen","quantity":10,"unitPrice":"1.05"}]}'


@dataclass
class Load:
    """The sums of what all callers measured."""

    per_second: float
    cpu_us: float
    latencies_us: list[int]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="requests of a round at saturation (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each server; tails take more, shorter ones (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=6, help="length of a round at a constant rate (default: %(default)s)")
    parser.add_argument("--tenants", type=int, default=1_000, help="tenants with 100 keys each in the cache (default: %(default)s)")
    parser.add_argument("--soak", type=int, default=600, metavar="SECONDS", help="watch the memory under load for so long, 0 for not (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="writes the rows there, too")
    arguments = parser.parse_args()
    if 0 < arguments.soak < 6 * SOAK_ROUND:
        parser.error(f"--soak takes {6 * SOAK_ROUND} seconds or more, or 0")
    # A signal that ends it ends the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            rows = Bench(arguments, Path(folder), stack).run()
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return report(rows, arguments.json)


class Bench:
    """One run of the benchmark."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> None:
        self._arguments, self._folder = arguments, folder
        self._rows: list[Row] = []
        self._issuer = Issuer()
        jwks = stack.enter_context(self._issuer.published())
        self._servers = Servers(folder, stack, jwks, arguments.tenants)

    def run(self) -> list[Row]:
        if not shutil.which("h2load"):
            raise BenchError("h2load is not installed (Debian: apt-get install nghttp2-client)")
        say("building (release)")
        run(["cargo", "build", "--locked", "--release", "--workspace"])
        run(["cargo", "build", "--locked", "--profile", "floor", "-p", "tonic-floor"])
        baseline = build_baseline(say)
        say(f"seeding {self._arguments.tenants:,} tenants with 100 keys each")
        self._servers.emulator()
        self._servers.seed()
        floor, service = self._servers.floor(), self._servers.service()
        self._pid = service.pid["200 B"]
        servers = [floor, service, *([self._servers.baseline(baseline)] if baseline else [])]
        idle = rss_mib(self._pid)
        self._row(Row("memory idle, MiB", f"{idle:.1f}", "", idle, "<=", 25))
        for server in servers:
            self._look(server)
        self._fill(service)
        self._saturate(servers)
        self._constant_rate(floor, service)
        self._rest(service)
        self._disturbed(service)
        if self._arguments.soak:
            self._soak(service)
        self._first_answer()
        self._inside()
        return self._rows

    # === gRPC ===

    def _look(self, server: Server) -> None:
        """Checks one answer of each size, and that each server that verifies tokens refuses a bad one."""
        for size, key in KEYS.items():
            def once(token: str) -> int:
                return grpc(server.port[size], "GetConfig", text(1, key), token, ["-n", "1", "-c", "1"]).data_bytes

            # The first answer is no hit, and says so.
            once(self._issuer.caller(tenant(0)))
            server.answer_bytes[size] = once(self._issuer.caller(tenant(0)))
            if server.answer_bytes[size] < SIZES[size]:
                raise BenchError(f"{server.name} does not answer {key} with its value\n{self._servers.log(server.pid[size])}")
            if server.name != "floor" and once(self._issuer.token(tenant(0), forged=True)):
                raise BenchError(f"{server.name} answers a forged token")

    def _fill(self, service: Server) -> None:
        """Reads every key of every tenant once, by BatchGetConfig."""
        say("filling the cache")

        def fill(number: int) -> None:
            body = b"".join(text(1, f"tenant_config_{name}") for name in names(number))
            grpc(service.port["200 B"], "BatchGetConfig", body, self._issuer.caller(tenant(number)), ["-n", "1", "-c", "1"])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(self._arguments.tenants)))
        entries = self._metric("config_cache_entries")
        wanted = self._arguments.tenants * 100
        if entries < wanted:
            raise BenchError(f"the cache holds {entries:,.0f} of {wanted:,} entries")

    def _saturate(self, servers: list[Server]) -> None:
        results: dict[tuple[str, str], list[Load]] = {}
        for index in range(self._arguments.rounds):
            for size in SIZES:
                for server in servers:
                    say(f"saturation, {size}, round {index + 1}: {server.name}")
                    share = 8 if server.name == "NestJS" else 1
                    requests = self._arguments.requests // share // CALLERS
                    self._ask(server, size, ["-n", "2000", "-c", "1", "-m", str(STREAMS)])
                    load = self._ask(server, size, ["-n", str(requests), "-c", "1", "-m", str(STREAMS)])
                    results.setdefault((server.name, size), []).append(load)
        rates = {key: statistics.median(load.per_second for load in loads) for key, loads in results.items()}
        costs = {key: statistics.median(load.cpu_us for load in loads) for key, loads in results.items()}
        for size in SIZES:
            mine, floor = ("config-service", size), ("floor", size)
            self._ratio(f"requests/s, {size}, to the floor", rates[mine], rates[floor], ">=", 0.90)
            self._ratio(f"CPU us/request, {size}, to the floor", costs[mine], costs[floor], "<=", 1.15)
            if ("NestJS", size) in rates:
                self._ratio(f"requests/s, {size}, to NestJS", rates[mine], rates["NestJS", size], ">=", 10)
        self._floor_rate = rates["floor", "200 B"]
        self._cpu_us = costs["config-service", "200 B"]
        cached, used = self._metric("config_cache_bytes") / 1024**2, rss_mib(self._pid)
        self._row(Row("memory under load, to what is cached, MiB", f"{used:.1f}", f"{cached:.1f}", used / cached, "<=", 1.3))

    def _constant_rate(self, floor: Server, service: Server) -> None:
        tails: dict[str, list[float]] = {}
        each = max(1, round(self._floor_rate / 2 / CALLERS / OPEN_CONNECTIONS))
        options = ["-D", str(self._arguments.seconds), "-c", str(OPEN_CONNECTIONS), "-m", "100", "--rps", str(each)]
        for index in range(self._arguments.rounds):
            for server in (floor, service):
                say(f"constant rate, {each * CALLERS * OPEN_CONNECTIONS:,}/s, round {index + 1}: {server.name}")
                load = self._ask(server, "200 B", options, with_log=True)
                tails.setdefault(server.name, []).append(percentile(load.latencies_us, 0.99))
        mine, bare = (statistics.median(tails[name]) for name in ("config-service", "floor"))
        self._ratio("p99 us at half the floor's capacity, to the floor", mine, bare, "<=", 1.25)

    def _disturbed(self, service: Server) -> None:
        """The tail in quiet, while a hot key is written ten times a second, and beside a flood of tokens that were never seen,
        every other one forged. In short rounds, so that what else the machine does meets all three alike."""
        rate, seconds, rounds = TAIL_RATE, self._arguments.seconds / 3, self._arguments.rounds * 4
        say(f"signing {FLOOD * seconds * rounds / 2:,.0f} tokens")
        floods = [self._tokens(f"flood-{index}", math.ceil(FLOOD * seconds)) for index in range(rounds)]
        callers = self._callers()
        target = ["--grpc", f"127.0.0.1:{service.port['200 B']}", "--key", KEYS["200 B"], "--connections", "8"]
        tenants = ",".join(tenant(number) for number in range(CALLERS))
        rewriting = ["--rewrite", f"127.0.0.1:{self._servers.refresh_port}", "--rewritten-tenants", tenants]
        tails: dict[str, list[float]] = {"quiet": [], "hot key": [], "flood": []}
        for index in range(rounds):
            names = list(tails)
            # Another one first each time: what one leaves behind meets all of them.
            for name in names[index % 3:] + names[:index % 3]:
                say(f"constant rate, {rate:,}/s, round {index + 1}: {name}")
                before = self._reads()
                with ThreadPoolExecutor(1) as pool:
                    flood = pool.submit(self._flood, service, floods[index], seconds) if name == "flood" else None
                    tail = hits(
                        callers, rate, seconds, SIZES["200 B"], target + rewriting * (name == "hot key"), warm_up=0.5,
                        TAGGED_CONFIG_REFRESH_CREDENTIAL=self._servers.credential,
                    )
                    flooded = flood.result() if flood else 0
                if name == "hot key" and tail.rewritten < 9 * seconds:
                    raise BenchError(f"the hot key was written {tail.rewritten} times in {seconds} s")
                self._check_counts(name, before, rate * (seconds + 0.5) + flooded)
                tails[name].append(tail.p99_us)
        quiet, hot, flood = (statistics.median(tails[name]) for name in tails)
        self._ratio(f"p99 us at {TAIL_RATE:,}/s, hot key written 10/s, to quiet", hot, quiet, "<=", 1.2)
        self._ratio(f"p99 us at {TAIL_RATE:,}/s, {FLOOD:,} new tokens/s, to quiet", flood, quiet, "<=", 2)

    def _check_counts(self, name: str, before: float, sent: float) -> None:
        """The service counted what the client says it sent."""
        counted = self._reads() - before
        if abs(counted - sent) > sent * 0.02:
            raise BenchError(f"{name}: {sent:,.0f} reads were sent, and config-service counted {counted:,.0f}")

    def _reads(self) -> float:
        return self._metric(r'config_reads_total{[^}]*result="hit"[^}]*}')

    def _flood(self, service: Server, tokens: Path, seconds: float) -> int:
        """Sends each token once, of all tenants, for cached keys. Returns how many were accepted."""
        target = ["--grpc", f"127.0.0.1:{service.port['200 B']}", "--key", "tenant_config_service/setting-0000"]
        flood = hits(tokens, FLOOD, seconds, SIZES["200 B"], target)
        good, refused = (flood.codes.get(code, 0) for code in ("OK", "UNAUTHENTICATED"))
        if good + refused != sum(flood.codes.values()) or abs(good - refused) > 1:
            raise BenchError(f"every other token of the flood was good, and the answers were {flood.codes}")
        return good

    # === REST ===

    def _rest(self, service: Server) -> None:
        """An order's price and the configuration facade beside a bare axum server that answers as many bytes."""
        say("REST")
        order_pid = self._servers.order_service(service)
        order_bytes = self._answer(self._servers.order_port, "POST", "/v1/orders", ORDER)
        path = f"/v1/config/{KEYS['200 B']}"
        entry_bytes = self._answer(self._servers.http_port, "GET", path)
        floor_port, floor_pid = self._servers.rest_floor(order_bytes, entry_bytes)
        kinds = {
            "order price": ("/v1/orders", ORDER, order_bytes, self._servers.order_port, order_pid),
            "REST facade": (path, None, entry_bytes, self._servers.http_port, self._pid),
        }
        for kind, (path, body, size, port, pid) in kinds.items():
            loads: dict[str, list[Load]] = {}
            tails: dict[str, list[float]] = {}
            both = {"axum": (floor_port, floor_pid), "service": (port, pid)}
            options = ["--h1", "-n", str(self._arguments.requests // 2 // CALLERS), "-c", str(REST_CONNECTIONS), "-m", "1"]
            for index in range(self._arguments.rounds):
                for name, (its_port, its_pid) in both.items():
                    say(f"{kind}, saturation, round {index + 1}: {name}")
                    url = f"http://127.0.0.1:{its_port}{path}"
                    loads.setdefault(name, []).append(self._together(its_pid, lambda token: h2load(
                        url, token, options, body=body, kind="application/json",
                    ), size, slack=8))
            rates = {name: statistics.median(load.per_second for load in found) for name, found in loads.items()}
            costs = {name: statistics.median(load.cpu_us for load in found) for name, found in loads.items()}
            seconds = self._arguments.seconds / 2
            with tempfile.NamedTemporaryFile(dir=self._folder) as content:
                content.write(body or b"")
                content.flush()
                posted = ["--body", content.name] if body else []
                for index in range(self._arguments.rounds * 2):
                    for name, (its_port, _) in both.items():
                        say(f"{kind}, constant rate, {TAIL_RATE:,}/s, round {index + 1}: {name}")
                        target = ["--url", f"http://127.0.0.1:{its_port}{path}", "--connections", "8", *posted]
                        tail = hits(self._callers(), TAIL_RATE, seconds, size, target, warm_up=0.5)
                        tails.setdefault(name, []).append(tail.p99_us)
            self._ratio(f"requests/s, {kind}, to a bare axum handler", rates["service"], rates["axum"])
            self._ratio(f"CPU us/request, {kind}, to it", costs["service"], costs["axum"])
            p99 = {name: statistics.median(found) for name, found in tails.items()}
            self._ratio(f"p99 us at {TAIL_RATE:,}/s, {kind}, to it", p99["service"], p99["axum"], "<=", 2)

    def _answer(self, port: int, method: str, path: str, body: bytes | None = None) -> int:
        """The bytes of the answer, once it is one of the cache's; that a forged token gets none."""
        refused, _ = requested(port, method, path, self._issuer.token(tenant(0), forged=True), body)
        if refused != 401:
            raise BenchError(f"{method} {path} with a forged token was answered {refused}")
        for number in range(CALLERS):
            status, answer = requested(port, method, path, self._issuer.caller(tenant(number)), body)
            if status != 200:
                raise BenchError(f"{method} {path} was answered {status}: {answer[:300]!r}")
        return len(requested(port, method, path, self._issuer.caller(tenant(0)), body)[1])

    # === memory and time ===

    def _soak(self, service: Server) -> None:
        """Memory after the first tenth of the time, and at its end, while tokens, tenants, signing keys and watchers come and go."""
        begun, length = time.monotonic(), self._arguments.soak
        samples: list[tuple[float, float]] = []
        known = {"tokens": 0, "tenants": 0, "keys": 0, "watches": 0}
        self._look(service)
        while (spent := time.monotonic() - begun) < length:
            samples.append((spent, rss_mib(self._pid)))
            say(f"soak: {samples[-1][1]:.1f} MiB, {length - spent:.0f} s to go; {known}")
            # New tenants with new tokens of a new signing key, half of them forged, for what they do not have.
            strangers = self._tokens("strangers", 600, kid=self._issuer.rotate(), prefix=f"stranger-{known['keys']:04}")
            address = f"127.0.0.1:{service.port['200 B']}"
            hits(strangers, 200, 3, 0, ["--grpc", address, "--key", "tenant_config_none"])
            known["tokens"], known["tenants"], known["keys"] = known["tokens"] + 600, known["tenants"] + 300, known["keys"] + 1
            known["watches"] += self._watch(service)
            end = spent + SOAK_ROUND
            while time.monotonic() - begun < end:
                self._ask(service, "200 B", ["-n", "20000", "-c", "1", "-m", str(STREAMS)])
        samples.append((length, rss_mib(self._pid)))
        early = statistics.median(memory for at, memory in samples if length * 0.1 <= at <= length * 0.3)
        late = statistics.median(memory for at, memory in samples if at >= length * 0.8)
        self._ratio(f"memory MiB at the end of {length} s of churn, to after {length / 10:.0f} s", late, early, "<=", 1.05)
        say(f"the soak had {known}")

    def _watch(self, service: Server) -> int:
        """Opens WatchConfig calls of all callers and abandons them. Returns their number."""
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda number: grpc(
                service.port["200 B"], "WatchConfig", text(1, KEYS["200 B"]), self._issuer.caller(tenant(number)),
                ["-D", "2", "-c", "1", "-m", "100"],
            ), range(CALLERS)))
        return CALLERS * 100

    def _first_answer(self) -> None:
        """Milliseconds from exec to a value that a verified token was given."""
        times = []
        token = self._issuer.caller(tenant(0))
        for _ in range(5):
            port = network.free_port()
            settings = self._servers.service_environment | listeners(network.free_port(), port, network.free_port())
            started = time.perf_counter()
            process = subprocess.Popen([str(program_of("config-service"))], env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                while requested(port, "GET", f"/v1/config/{KEYS['200 B']}", token)[0] != 200:
                    if time.perf_counter() - started > 10:
                        raise BenchError("config-service does not answer after its start")
                    time.sleep(0.001)
                times.append((time.perf_counter() - started) * 1_000)
            finally:
                process.kill()
                process.wait()
        self._row(Row("first answer, ms after exec", f"{statistics.median(times):.0f}", "", statistics.median(times), "<=", 100))

    def _inside(self) -> None:
        say("inside the process (cargo bench --bench limits)")
        output = run(["cargo", "bench", "--locked", "-p", "config-service", "--bench", "limits"])
        found = dict(line.split() for line in output.splitlines() if re.fullmatch(r"[a-z0-9_]+ [0-9.]+", line))
        value = {name: float(figure) for name, figure in found.items()}
        for row in (
            Row("full verification of a token, us", found["verification_us"], "", value["verification_us"], "<=", 60),
            Row(f"calls for {value['cold_key_readers']:,.0f} readers of a cold key", found["cold_key_calls"], "", value["cold_key_calls"], "<=", 1),
            Row("two threads, to one; other: what shares nothing", found["two_threads"], found["two_threads_machine"], value["two_threads"], ">=", 1.8),
        ):
            self._row(row)
        more = self._cpu_us + (value["hit_ns_1m"] - value["hit_ns_1k"]) / 1_000
        self._ratio("CPU us/request with 1M entries, to 1k", more, self._cpu_us, "<=", 1.2)

    # === all callers ===

    def _ask(self, server: Server, size: str, options: Sequence[str], *, with_log: bool = False) -> Load:
        return self._together(server.pid[size], lambda token: grpc(
            server.port[size], "GetConfig", text(1, KEYS[size]), token, options, with_log=with_log,
        ), server.answer_bytes[size])

    def _together(self, pid: int, send: Callable[[str], Answers], answer_bytes: int, *, slack: int = 0) -> Load:
        """All callers at once, each on its own connections. A status of 200 proves no success of gRPC: the bytes of all answers
        must be those of as many answers as the sample, with `slack` for each."""
        before, started = cpu_seconds(pid), time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as pool:
            runs = list(pool.map(lambda number: send(self._issuer.caller(tenant(number))), range(CALLERS)))
        took = time.perf_counter() - started
        requests = sum(one.requests for one in runs)
        for one in runs:
            wrong = one.data_bytes - one.answers * answer_bytes
            if abs(wrong) > one.answers * slack or one.answers != one.requests:
                raise BenchError(f"{one.data_bytes} bytes in {one.answers} of {one.requests} answers of {answer_bytes}: not all are right")
        return Load(requests / took, (cpu_seconds(pid) - before) * 1e6 / requests, [us for one in runs for us in one.latencies_us])

    def _callers(self) -> Path:
        file = self._folder / "callers"
        file.write_text("\n".join(self._issuer.caller(tenant(number)) for number in range(CALLERS)))
        return file

    def _tokens(self, file: str, count: int, *, prefix: str = "tenant", **key: str) -> Path:
        """So many tokens that were never seen, of all tenants, every other one forged; one in a line."""
        path = self._folder / file
        path.write_text("\n".join(
            self._issuer.token(f"{prefix}-{number % self._arguments.tenants:05}", forged=number % 2 == 0, **key)
            for number in range(count)
        ))
        return path

    def _metric(self, name: str) -> float:
        """The sum of the metrics that match."""
        found = re.findall(rf"^{name} (\S+)$", network.request(f"http://127.0.0.1:{self._servers.http_port}/metrics")[1].decode(), re.MULTILINE)
        if not found:
            raise BenchError(f"config-service has no metric {name}")
        return sum(map(float, found))

    def _ratio(self, what: str, mine: float, other: float, relation: str = "", wanted: float = 0) -> None:
        self._row(ratio(what, mine, other, relation, wanted))

    def _row(self, row: Row) -> None:
        """Also prints the figure at once: a run that fails later has shown what it measured."""
        self._rows.append(row)
        say(f"{row.what}: {row.value:.2f} {row.verdict}")


def requested(port: int, method: str, path: str, token: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and the body of the answer; status 0 for no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def say(line: str) -> None:
    print(f"... {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
