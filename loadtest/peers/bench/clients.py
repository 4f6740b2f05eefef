"""The load generators: h2load measures how many requests a server can answer; `loadtest hits`, an open loop, measures how long an
answer takes."""

from __future__ import annotations

import json
import math
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.layout import REPOSITORY, cargo_target

from .rows import BenchError

SERVICE = "/tagged.config.v1.ConfigService/"


@dataclass
class Answers:
    """The counts of one client."""

    requests: int
    answers: int
    data_bytes: int
    latencies_us: list[int] = field(default_factory=list)


@dataclass
class Tail:
    """The result of an open loop."""

    codes: dict[str, int]
    p99_us: int
    rewritten: int


def h2load(url: str, token: str, options: Sequence[str], *, body: bytes | None = None, kind: str, with_log: bool = False) -> Answers:
    """One run of h2load with one token."""
    with tempfile.NamedTemporaryFile() as content, tempfile.NamedTemporaryFile() as log:
        command = ["h2load", "-t", "1", *options, "-H", f"content-type: {kind}"]
        if token:
            command += ["-H", f"authorization: Bearer {token}"]
        if body is not None:
            content.write(body)
            content.flush()
            command += ["-d", content.name]
        if with_log:
            command.append(f"--log-file={log.name}")
        output = run([*command, url])
        lines = Path(log.name).read_text().splitlines() if with_log else []
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded", output)
    # h2load rounds all but the numbers in brackets.
    data = re.search(r"traffic: .* \((\d+)\) data", output)
    if not counts or not data:
        raise BenchError(f"h2load said nothing of use:\n{output[-800:]}")
    latencies = [int(line.split("\t")[2]) for line in lines if line.split("\t")[1] == "200"]
    return Answers(int(counts[2]), int(counts[3]), int(data[1]), latencies)


def grpc(port: int, method: str, message: bytes, token: str, options: Sequence[str], *, with_log: bool = False) -> Answers:
    """One run of h2load with one message."""
    body = b"\0" + struct.pack(">I", len(message)) + message
    return h2load(
        f"http://127.0.0.1:{port}{SERVICE}{method}", token, ["-H", "te: trailers", *options],
        body=body, kind="application/grpc", with_log=with_log,
    )


def hits(tokens: Path, rate: float, seconds: float, least_bytes: int, target: Sequence[str], *, warm_up: float = 0, **environment: str) -> Tail:
    """One run of `loadtest hits`. Ends the benchmark if the rate was not sustained or an answer was too small."""
    warmed = ["--warm-up", f"{warm_up}s"] if warm_up else []
    command = [
        str(cargo_target() / "release" / "loadtest"), "hits", *target, "--least-bytes", str(least_bytes),
        "--token-file", str(tokens), "--rate", str(rate), "--duration", f"{seconds}s", *warmed,
    ]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    if answer.returncode not in (0, 1) or not answer.stdout:
        raise BenchError(f"loadtest hits failed:\n{answer.stderr[-2000:]}")
    measured = json.loads(answer.stdout)
    if answer.returncode:
        raise BenchError(f"loadtest hits: {measured['not_sustained_because'] or measured['codes']}")
    return Tail(measured["codes"], measured["times"]["p99_us"], measured["rewritten"])


def percentile(latencies_us: list[int], share: float) -> float:
    ordered = sorted(latencies_us)
    return float(ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)])


# === protobuf's wire format, as far as it is needed here ===


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field_of(tag: int, content: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(content)) + content


def text(tag: int, content: str) -> bytes:
    return field_of(tag, content.encode())


# === processes ===


def run(command: list[str], folder: Path = REPOSITORY) -> str:
    """Runs a command. Returns its output."""
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if answer.returncode != 0:
        raise BenchError(f"{' '.join(command[:3])} failed:\n{answer.stderr[-2000:]}{answer.stdout[-2000:]}")
    return answer.stdout


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
