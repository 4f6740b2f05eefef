"""`make bench-peers`: config-service's cache hits beside the least that a tonic server can do (`floor/`) and beside the same
service on NestJS (`baseline/`), in one run. Prints each ratio with what is wanted of it; exits 1 unless all are met.

The client is h2load, which knows none of the three. Each connection has a caller of its own: another tenant, another token
(RS256, verified by both services). An HTTP status 200 proves no gRPC success: the bytes of all answers must be those of as many
answers as the one that was looked at. The servers take turns, each figure is the median of the turns, and everything
shares this machine's processors: only ratios mean something.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import math
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "localstack"))

import bootstrap  # noqa: E402
from launcher import emulator, network, processes  # noqa: E402
from launcher.layout import CACHE, cargo_target  # noqa: E402

ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_BenchPeer"
AUDIENCE = "bench-peers"
TABLE = "TenantConfigurations"
CONNECTIONS = 4
STREAMS = 16
OPEN_CONNECTIONS = 10
"""Of each caller, at a constant rate: h2load lets requests go every 10 ms, so many connections make it even."""
SIZES = {"200 B": 200, "4 KB": 4096}
KEYS = {name: f"tenant_config_service/feature-{size:04}" for name, size in SIZES.items()}


class BenchError(Exception):
    """Ends the run with one message."""


@dataclass
class Server:
    """One of the three: its process, its port, and the answers it gives."""

    name: str
    port: dict[str, int]
    pid: dict[str, int]
    answer_bytes: dict[str, int] = field(default_factory=dict)


@dataclass
class Load:
    """What one run of all clients measured."""

    per_second: float
    cpu_us: float
    latencies_us: list[int] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_us)
        return float(ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)])


@dataclass
class Row:
    """One line of the result."""

    what: str
    service: str
    other: str
    value: float
    relation: str
    wanted: float

    @property
    def is_met(self) -> bool:
        return self.value >= self.wanted if self.relation == ">=" else self.value <= self.wanted


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="requests of a turn at saturation (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each server (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=6, help="length of a turn at a constant rate (default: %(default)s)")
    parser.add_argument("--tenants", type=int, default=1_000, help="tenants with 100 keys each in the cache (default: %(default)s)")
    parser.add_argument("--soak", type=int, default=0, metavar="SECONDS", help="watch the memory under load for so long (default: not)")
    parser.add_argument("--json", metavar="FILE", help="writes the rows there, too")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            rows = Bench(arguments, Path(folder), stack).run()
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return report(rows, arguments.json)


class Bench:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> None:
        self._arguments = arguments
        self._folder = folder
        self._stack = stack
        self._rows: list[Row] = []
        self._issuer = Issuer()
        self._emulator_url = ""
        self._logs: dict[int, str] = {}
        self._fresh = 0

    def run(self) -> list[Row]:
        if not shutil.which("h2load"):
            raise BenchError("h2load is not installed (Debian: apt-get install nghttp2-client)")
        say("building (release)")
        run(["cargo", "build", "--locked", "--release", "--workspace"])
        run(["cargo", "build", "--locked", "--profile", "floor", "-p", "tonic-floor"])
        baseline = build_baseline()
        say(f"seeding {self._arguments.tenants:,} tenants with 100 keys each")
        self._start_emulator()
        self._seed()
        jwks = self._stack.enter_context(self._issuer.published())
        floor = self._start_floor()
        service, environment = self._start_service(jwks)
        servers = [floor, service]
        if baseline:
            servers.append(self._start_baseline(baseline, jwks))
        self._memory_idle(service)
        for server in servers:
            self._look(server)
        self._fill(service)
        self._saturate(servers)
        self._constant_rate(floor, service)
        if self._arguments.soak:
            self._soak(service)
        # Last of the loads: what it writes has larger answers from then on.
        self._disturbed(service)
        self._first_answer(environment)
        self._inside(service)
        return self._rows

    # === starting ===

    def _start_emulator(self) -> None:
        port = network.free_port()
        self._emulator_url = f"http://127.0.0.1:{port}"
        self._spawn([sys.executable, str(REPOSITORY / "localstack" / "emulator.py")], emulator.environment(port, self._folder))
        if not processes.wait_until(lambda: network.request(f"{self._emulator_url}/_ministack/health")[0] == 200, 60):
            raise BenchError("the emulator does not start")

    def _seed(self) -> None:
        import boto3

        client = boto3.client(
            "dynamodb", endpoint_url=self._emulator_url, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )
        client.create_table(
            TableName=TABLE, BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
        )
        rows = []
        for number in range(self._arguments.tenants):
            for name in names(number):
                rows.append((tenant(number), name, "x" * size_of(name)))
        for number in range(CONNECTIONS):
            # The baseline's form: the whole key.
            rows += [(tenant(number), key, "x" * SIZES[size]) for size, key in KEYS.items()]
        for at in range(0, len(rows), 25):
            client.batch_write_item(RequestItems={TABLE: [
                {"PutRequest": {"Item": {
                    "PK": {"S": f"TENANT#{owner}"}, "SK": {"S": f"CONFIG#{name}"}, "configValue": {"S": value},
                }}}
                for owner, name, value in rows[at:at + 25]
            ]})

    def _start_floor(self) -> Server:
        program = cargo_target() / "floor" / "tonic-floor"
        ports = {size: network.free_port() for size in SIZES}
        pids = {size: self._spawn([str(program), f"127.0.0.1:{ports[size]}", str(SIZES[size])], {}) for size in SIZES}
        return Server("floor", ports, pids)

    def _start_service(self, jwks: str) -> tuple[Server, dict[str, str]]:
        environment = {
            "TAGGED_CONFIG_JWKS_URL": jwks,
            "TAGGED_CONFIG_ISSUER": ISSUER,
            "TAGGED_CONFIG_AUDIENCE": AUDIENCE,
            "TAGGED_CONFIG_TABLE": TABLE,
            "TAGGED_CONFIG_PARAMETER_ROOT": "/tagged-config/config",
            "TAGGED_CONFIG_CACHE_TTL": "2h",
            "TAGGED_CONFIG_MAX_STALE": "2h",
            "TAGGED_CONFIG_CACHE_BYTES": str(512 * 1024 * 1024),
            "TAGGED_CONFIG_REFRESH_CREDENTIAL": base64.b64encode(os.urandom(32)).decode(),
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._emulator_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        port, self._http_port = network.free_port(), network.free_port()
        refresh_port = network.free_port()
        self._credential = environment["TAGGED_CONFIG_REFRESH_CREDENTIAL"]
        self._refresh = Server("config-service's refresh port", dict.fromkeys(SIZES, refresh_port), {})
        pid = self._spawn([str(program_of_service())], environment | listeners(port, self._http_port, refresh_port))
        ready = processes.wait_until(lambda: network.request(f"http://127.0.0.1:{self._http_port}/readyz")[0] == 200, 20)
        if not ready:
            raise BenchError(f"config-service does not start:\n{self._log(pid)}")
        return Server("config-service", dict.fromkeys(SIZES, port), dict.fromkeys(SIZES, pid)), environment

    def _start_baseline(self, program: Path, jwks: str) -> Server:
        port = network.free_port()
        pid = self._spawn(["node", str(program)], {
            "PATH": os.environ["PATH"], "GRPC_PORT": str(port), "JWKS_URI": jwks, "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE, "AWS_ENDPOINT_URL": self._emulator_url, "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "TABLE_NAME": TABLE, "CACHE_TTL_SECONDS": "7200",
            "PROTO_PATH": str(program.parent.parent / "proto" / "config.proto"),
        })
        if not processes.wait_until(lambda: network.bind_problem("127.0.0.1", port) is not None, 20):
            raise BenchError(f"the baseline does not start:\n{self._log(pid)}")
        return Server("NestJS", dict.fromkeys(SIZES, port), dict.fromkeys(SIZES, pid))

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

    def _log(self, pid: int) -> str:
        return Path(self._logs[pid]).read_text()[-2000:]

    # === measuring ===

    def _look(self, server: Server) -> None:
        """One answer of each size, looked at; and that a bad token is refused by who looks at tokens."""
        for size, key in KEYS.items():
            caller = self._issuer.token(tenant(0))
            # The first answer is no hit, and says so.
            self._h2load(server, size, caller, ["-n", "1", "-c", "1"])
            data = self._h2load(server, size, caller, ["-n", "1", "-c", "1"]).data_bytes
            if data < SIZES[size]:
                raise BenchError(f"{server.name} does not answer {key} with its value ({data} bytes)\n{self._log(server.pid[size])}")
            server.answer_bytes[size] = data
            if server.name != "floor":
                refused = self._h2load(server, size, caller[:-8] + "AAAAAAAA", ["-n", "1", "-c", "1"]).data_bytes
                if refused:
                    raise BenchError(f"{server.name} answers a forged token")

    def _memory_idle(self, service: Server) -> None:
        self._rows.append(Row("memory idle, MiB", f"{rss_mib(service.pid['200 B']):.1f}", "", rss_mib(service.pid["200 B"]), "<=", 25))

    def _fill(self, service: Server) -> None:
        """Reads every key of every tenant once, by BatchGetConfig."""
        say("filling the cache")

        def fill(number: int) -> None:
            keys = [f"tenant_config_{name}" for name in names(number)]
            body = b"".join(text(1, key) for key in keys)
            self._h2load(service, "200 B", self._issuer.token(tenant(number)), ["-n", "1", "-c", "1"], "BatchGetConfig", body)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(self._arguments.tenants)))
        entries = self._metric("config_cache_entries")
        wanted = self._arguments.tenants * 100
        if entries < wanted:
            raise BenchError(f"the cache holds {entries:,.0f} of {wanted:,} entries")

    def _saturate(self, servers: list[Server]) -> None:
        results: dict[tuple[str, str], list[Load]] = {}
        for turn in range(self._arguments.turns):
            for size in SIZES:
                for server in servers:
                    say(f"saturation, {size}, turn {turn + 1}: {server.name}")
                    share = 8 if server.name == "NestJS" else 1
                    requests = self._arguments.requests // share // CONNECTIONS
                    options = ["-n", str(requests), "-c", "1", "-m", str(STREAMS)]
                    self._together(server, size, ["-n", "2000", "-c", "1", "-m", str(STREAMS)])
                    results.setdefault((server.name, size), []).append(self._together(server, size, options))
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
        cached = self._metric("config_cache_bytes") / 1024**2
        used = rss_mib(self._service_pid(servers))
        self._rows.append(Row("memory under load, to what is cached, MiB", f"{used:.1f}", f"{cached:.1f}", used / cached, "<=", 1.3))

    def _constant_rate(self, floor: Server, service: Server) -> None:
        rate = self._floor_rate / 2
        tails: dict[str, list[float]] = {}
        each = max(1, round(rate / CONNECTIONS / OPEN_CONNECTIONS))
        options = [
            "-D", str(self._arguments.seconds), "-c", str(OPEN_CONNECTIONS), "-m", "100", "--rps", str(each),
        ]
        for turn in range(self._arguments.turns):
            for server in (floor, service):
                say(f"constant rate, {each * CONNECTIONS * OPEN_CONNECTIONS:,}/s, turn {turn + 1}: {server.name}")
                load = self._together(server, "200 B", options, with_log=True)
                tails.setdefault(server.name, []).append(load.percentile(0.99))
        mine, bare = (statistics.median(tails[name]) for name in ("config-service", "floor"))
        self._ratio("p99 us at half the floor's capacity, to the floor", mine, bare, "<=", 1.25)

    def _disturbed(self, service: Server) -> None:
        """The tail at a quarter of the floor's capacity: in quiet, while a hot key is written ten times a second, and beside a
        flood of tokens that were never seen, every other one forged."""
        disturbances = {"quiet": None, "hot key": self._rewrite, "flood": self._flood}
        each = max(1, round(self._floor_rate / 4 / CONNECTIONS / OPEN_CONNECTIONS))
        options = ["-D", str(self._arguments.seconds), "-c", str(OPEN_CONNECTIONS), "-m", "100", "--rps", str(each)]
        tails: dict[str, list[float]] = {}
        counts = dict.fromkeys(disturbances, 0)
        for turn in range(self._arguments.turns):
            for name, disturb in disturbances.items():
                say(f"constant rate, {each * CONNECTIONS * OPEN_CONNECTIONS:,}/s, turn {turn + 1}: {name}")
                over = threading.Event()
                with ThreadPoolExecutor(1) as pool:
                    work = pool.submit(disturb, over) if disturb else None
                    # A written value has another version and time, so its answers are a little larger.
                    slack = 32 if disturb == self._rewrite or counts["hot key"] else 0
                    try:
                        load = self._together(service, "200 B", options, with_log=True, slack=slack)
                    finally:
                        over.set()
                    counts[name] += work.result() if work else 0
                tails.setdefault(name, []).append(load.percentile(0.99))
        quiet, hot, flood = (statistics.median(tails[name]) for name in disturbances)
        seconds = self._arguments.turns * self._arguments.seconds
        self._ratio(f"p99 us, hot key written {counts['hot key'] / seconds:.0f}/s, to quiet", hot, quiet, "<=", 1.2)
        self._ratio(f"p99 us, {counts['flood'] / seconds:,.0f} new tokens/s, to quiet", flood, quiet, "<=", 2)

    def _rewrite(self, over: threading.Event) -> int:
        """Sends the callers' hot keys anew, as the invalidator does, in turn and ten times a second."""
        written = 0
        while not over.wait(0.1):
            name = KEYS["200 B"].removeprefix("tenant_config_")
            version = time.time_ns() // 1_000_000
            location = text(1, "dynamodb") + text(2, f"TENANT#{tenant(written % CONNECTIONS)}") + text(3, f"CONFIG#{name}")
            value = text(1, "y" * SIZES["200 B"]) + text(2, "text/plain") + integer(3, version)
            change = field_of(1, location) + integer(2, 1) + integer(3, version) + integer(4, version) + field_of(6, value)
            answer = self._h2load(
                self._refresh, "200 B", "", ["-n", "1", "-c", "1", "-H", f"x-refresh-credential: {self._credential}"],
                "Refresh", field_of(1, change), service="RefreshService",
            )
            if answer.data_bytes == 0:
                raise BenchError("the hot key could not be sent anew")
            written += 1
        return written

    def _flood(self, over: threading.Event) -> int:
        """Asks with a token never seen each time, as fast as one client can. Its own signing is part of the disturbance."""
        connection = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=5)
        sent = 0
        while not over.is_set():
            self._fresh += 1
            token = self._issuer.token(f"stranger-{self._fresh:08}")
            forged = self._fresh % 2 == 0
            connection.request("GET", "/v1/config/tenant_config_none", headers={
                "authorization": f"Bearer {token[:-8] + 'AAAAAAAA' if forged else token}",
            })
            answer = connection.getresponse()
            answer.read()
            if (answer.status == 401) != forged:
                raise BenchError(f"a {'forged' if forged else 'good'} token was answered {answer.status}")
            sent += 1
        connection.close()
        return sent

    def _soak(self, service: Server) -> None:
        """Memory after the first tenth of the time, and at its end."""
        end = time.monotonic() + self._arguments.soak
        early = 0.0
        while time.monotonic() < end:
            say(f"soak: {rss_mib(service.pid['200 B']):.1f} MiB, {end - time.monotonic():.0f} s to go")
            self._together(service, "200 B", ["-n", "100000", "-c", "1", "-m", str(STREAMS)])
            if not early and time.monotonic() > end - self._arguments.soak * 0.9:
                early = rss_mib(service.pid["200 B"])
        late = rss_mib(service.pid["200 B"])
        self._ratio("memory MiB at the soak's end, to its beginning", late, early, "<=", 1.05)

    def _first_answer(self, environment: dict[str, str]) -> None:
        """Milliseconds from exec to a value that a verified token was given."""
        times = []
        token = self._issuer.token(tenant(0))
        for _ in range(5):
            port = network.free_port()
            settings = environment | listeners(network.free_port(), port, network.free_port())
            started = time.perf_counter()
            process = subprocess.Popen([str(program_of_service())], env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                while requested(port, "GET", f"/v1/config/{KEYS['200 B']}", token) != 200:
                    if time.perf_counter() - started > 10:
                        raise BenchError("config-service does not answer after its start")
                    time.sleep(0.001)
                times.append((time.perf_counter() - started) * 1_000)
            finally:
                process.kill()
                process.wait()
        self._rows.append(Row("first answer, ms after exec", f"{statistics.median(times):.0f}", "", statistics.median(times), "<=", 100))

    def _inside(self, service: Server) -> None:
        say("inside the process (cargo bench --bench limits)")
        output = run(["cargo", "bench", "--locked", "-p", "config-service", "--bench", "limits"])
        found = dict(line.split() for line in output.splitlines() if re.fullmatch(r"[a-z0-9_]+ [0-9.]+", line))
        value = {name: float(text) for name, text in found.items()}
        self._rows += [
            Row("full verification of a token, us", found["verification_us"], "", value["verification_us"], "<=", 60),
            Row(f"calls for {value['cold_key_readers']:,.0f} readers of a cold key", found["cold_key_calls"], "", value["cold_key_calls"], "<=", 1),
            Row("two threads, to one; other: what shares nothing", found["two_threads"], found["two_threads_machine"], value["two_threads"], ">=", 1.8),
        ]
        more = self._cpu_us + (value["hit_ns_1m"] - value["hit_ns_1k"]) / 1_000
        self._ratio("CPU us/request with 1M entries, to 1k", more, self._cpu_us, "<=", 1.2)

    def _ratio(self, what: str, mine: float, other: float, relation: str, wanted: float) -> None:
        precision = 0 if mine >= 1_000 else 2
        self._rows.append(Row(what, f"{mine:,.{precision}f}", f"{other:,.{precision}f}", mine / other, relation, wanted))

    # === h2load ===

    def _together(
        self, server: Server, size: str, options: list[str], *, with_log: bool = False, slack: int = 0
    ) -> Load:
        """All callers at once, each on its own connections."""
        pid = server.pid[size]
        before, started = cpu_seconds(pid), time.perf_counter()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            runs = list(pool.map(
                lambda number: self._h2load(server, size, self._issuer.token(tenant(number)), options, with_log=with_log), range(CONNECTIONS)
            ))
        took = time.perf_counter() - started
        requests = sum(one.requests for one in runs)
        for one in runs:
            wrong = one.data_bytes - one.answers * server.answer_bytes[size]
            if not 0 <= wrong <= one.answers * slack or one.answers != one.requests:
                raise BenchError(f"{server.name}: {one.data_bytes} bytes in {one.answers} of {one.requests} answers: not all are right")
        latencies = [microseconds for one in runs for microseconds in one.latencies_us]
        return Load(requests / took, (cpu_seconds(pid) - before) * 1e6 / requests, latencies)

    def _h2load(
        self, server: Server, size: str, token: str, options: list[str], method: str = "GetConfig", message: bytes | None = None,
        *, service: str = "ConfigService", with_log: bool = False,
    ) -> "Answers":
        key = KEYS[size].encode()
        message = field_of(1, key) if message is None else message
        with tempfile.NamedTemporaryFile(dir=self._folder) as body, tempfile.NamedTemporaryFile(dir=self._folder) as log:
            body.write(b"\0" + struct.pack(">I", len(message)) + message)
            body.flush()
            logged = [f"--log-file={log.name}"] if with_log else []
            output = run([
                "h2load", "-t", "1", *options, *logged, "-d", body.name, "-H", "content-type: application/grpc", "-H", "te: trailers",
                "-H", f"authorization: Bearer {token}", f"http://127.0.0.1:{server.port[size]}/tagged.config.v1.{service}/{method}",
            ])
            lines = Path(log.name).read_text().splitlines() if with_log else []
        counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded", output)
        # h2load rounds all but the numbers in brackets.
        data = re.search(r"traffic: .* \((\d+)\) data", output)
        if not counts or not data:
            raise BenchError(f"h2load said nothing of use:\n{output[-800:]}")
        latencies = [int(line.split("\t")[2]) for line in lines if line.split("\t")[1] == "200"]
        return Answers(int(counts[2]), int(counts[3]), int(data[1]), latencies)

    def _metric(self, name: str) -> float:
        text = network.request(f"http://127.0.0.1:{self._http_port}/metrics")[1].decode()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        if not found:
            raise BenchError(f"config-service has no metric {name}")
        return float(found[1])

    @staticmethod
    def _service_pid(servers: list[Server]) -> int:
        return next(server.pid["200 B"] for server in servers if server.name == "config-service")


@dataclass
class Answers:
    """What one h2load counted."""

    requests: int
    answers: int
    data_bytes: int
    latencies_us: list[int]


class Issuer:
    """Signs tokens as Cognito does, with a key of its own."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._tokens: dict[tuple[str, str], str] = {}

    @contextlib.contextmanager
    def published(self) -> Iterator[str]:
        """Serves the public key; the URL."""
        numbers = self._key.public_key().public_numbers()
        jwk = {
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench",
            "n": encoded(numbers.n.to_bytes(256, "big")), "e": encoded(numbers.e.to_bytes(3, "big")),
        }
        document = json.dumps({"keys": [jwk]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/jwks.json"
        server.shutdown()

    def token(self, owner: str, role: str = "reader") -> str:
        """A token of this tenant, the same each time."""
        if (owner, role) not in self._tokens:
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric import padding

            now = int(time.time())
            claims = {
                "iss": ISSUER, "aud": AUDIENCE, "token_use": "id", "sub": "6b1f2a3c-0000-4000-8000-000000000000", "iat": now,
                "auth_time": now, "exp": now + 86_400, "custom:tenantId": owner, "custom:userRole": role,
                "email": "somebody@example.com", "cognito:username": "somebody", "jti": "6b1f2a3c-0000-4000-8000-000000000001",
            }
            parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "bench", "typ": "JWT"}, claims)]
            signature = self._key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
            self._tokens[owner, role] = ".".join([*parts, encoded(signature)])
        return self._tokens[owner, role]


def build_baseline() -> Path | None:
    """The NestJS service in one file, built where it does not litter the repository; None without Node."""
    if not shutil.which("npm") or not shutil.which("node"):
        say("NestJS is left out: node and npm are not installed")
        return None
    work = CACHE / "bench-baseline"
    program = work / "dist" / "server.mjs"
    newest = max(file.stat().st_mtime for file in (HERE / "baseline").rglob("*") if file.is_file())
    if not program.exists() or program.stat().st_mtime < newest:
        say("building the NestJS service")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(HERE / "baseline", work)
        run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], work)
        run(["npm", "run", "build"], work)
    return program


def report(rows: list[Row], file: str | None) -> int:
    width = max(len(row.what) for row in rows)
    print(f"\n{'':<{width}}  {'service':>10}  {'other':>10}  {'ratio':>8}  wanted")
    for row in rows:
        verdict = "met" if row.is_met else "NOT MET"
        print(f"{row.what:<{width}}  {row.service:>10}  {row.other:>10}  {row.value:>8.2f}  {row.relation} {row.wanted:<6g} {verdict}")
    missed = [row.what for row in rows if not row.is_met]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} met")
    if file:
        Path(file).write_text(json.dumps([vars(row) | {"met": row.is_met} for row in rows], indent=2) + "\n")
    return 1 if missed else 0


def listeners(grpc: int, http_port: int, refresh: int) -> dict[str, str]:
    return {
        "TAGGED_CONFIG_GRPC_ADDR": f"127.0.0.1:{grpc}",
        "TAGGED_CONFIG_REFRESH_ADDR": f"127.0.0.1:{refresh}",
        "TAGGED_CONFIG_HTTP_ADDR": f"127.0.0.1:{http_port}",
    }


def program_of_service() -> Path:
    return cargo_target() / "release" / "config-service"


def tenant(number: int) -> str:
    return f"tenant-{number:05}"


def names(number: int) -> list[str]:
    """A tenant's keys without their tag; the callers' tenants have the measured ones among them."""
    measured = [key.removeprefix("tenant_config_") for key in KEYS.values()] if number < CONNECTIONS else []
    return [*measured, *(f"service/setting-{count:04}" for count in range(100 - len(measured)))]


def size_of(name: str) -> int:
    """The measured keys say it; of the others every other one is large."""
    number = int(name[-4:])
    return number if "/feature-" in name else list(SIZES.values())[number % 2]


def varint(value: int) -> bytes:
    """As protobuf writes numbers."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field_of(tag: int, content: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(content)) + content


def text(tag: int, content: str) -> bytes:
    return field_of(tag, content.encode())


def integer(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def rss_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def requested(port: int, method: str, path: str, token: str, body: str | None = None) -> int:
    """The status of the answer; 0 for none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request(method, path, body, headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def run(command: list[str], folder: Path = REPOSITORY) -> str:
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if answer.returncode != 0:
        raise BenchError(f"{' '.join(command[:3])} failed:\n{answer.stderr[-2000:]}{answer.stdout[-2000:]}")
    return answer.stdout


def say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if not bootstrap.is_current() or Path(sys.prefix).resolve() != bootstrap.VENV.resolve():
        bootstrap.ensure()
        os.execv(bootstrap.PYTHON, [str(bootstrap.PYTHON), *sys.argv])
    sys.exit(main())
