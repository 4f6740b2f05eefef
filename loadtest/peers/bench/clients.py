"""The load generators: h2load and redis-benchmark measure how many requests a server can answer; `loadtest hits`, an open loop,
measures how long an answer takes."""

from __future__ import annotations

import csv
import json
import re
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.layout import REPOSITORY, cargo_target

from .rows import BenchError

SERVICE = "/tagged.config.v1.ConfigService/"


@dataclass(frozen=True)
class Answers:
    """What one client counted."""

    requests: int
    answers: int
    data_bytes: int
    per_second: float
    """Over its own time, without the start of its process."""


@dataclass(frozen=True)
class Tail:
    """The result of an open loop: times in microseconds from when a request was due, and the lag of the load generator."""

    codes: dict[str, int]
    p50_us: float
    p99_us: float
    lag_p50_us: float
    lag_p99_us: float
    rewritten: int


# === h2load ===


def h2load(url: str, authorization: str, options: Sequence[str], *, body: bytes | None = None, kind: str) -> Answers:
    """One run of h2load, with one caller."""
    with tempfile.NamedTemporaryFile() as content:
        command = ["h2load", "-t", "1", *options, "-H", f"content-type: {kind}", "-H", f"authorization: {authorization}"]
        if body is not None:
            content.write(body)
            content.flush()
            command += ["-d", content.name]
        return answers_of(run([*command, url]))


def answers_of(output: str) -> Answers:
    """Reads what h2load prints."""
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded", output)
    # h2load rounds all but the numbers in brackets.
    data = re.search(r"traffic: .* \((\d+)\) data", output)
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", output)
    if not counts or not data or not rate:
        raise BenchError(f"h2load printed no result:\n{output[-800:]}")
    return Answers(int(counts[2]), int(counts[3]), int(data[1]), float(rate[1]))


def grpc(port: int, method: str, message: bytes, token: str, options: Sequence[str]) -> Answers:
    """One run of h2load with one message."""
    body = b"\0" + struct.pack(">I", len(message)) + message
    return h2load(
        f"http://127.0.0.1:{port}{SERVICE}{method}", f"Bearer {token}", ["-H", "te: trailers", *options],
        body=body, kind="application/grpc",
    )


def checked(answers: Answers, answer_bytes: int, slack: int = 0) -> Answers:
    """Ends the benchmark unless all answers were right. A status of 200 proves no success of gRPC: the bytes of all answers together
    must be those of as many answers as the sample, with `slack` for each."""
    wrong = answers.data_bytes - answers.answers * answer_bytes
    if abs(wrong) > answers.answers * slack or answers.answers != answers.requests:
        raise BenchError(
            f"{answers.data_bytes} bytes in {answers.answers} of {answers.requests} answers of {answer_bytes}: not all are right"
        )
    return answers


# === loadtest hits ===


def hits(
    callers: Path, rate: float, seconds: float, least_bytes: int, target: Sequence[str], *,
    warm_up: float = 0, expected: Sequence[str] = ("OK",), **environment: str,
) -> Tail:
    """One run of `loadtest hits`. Ends the benchmark if the rate was not sustained, or if an answer was not as expected."""
    warmed = ["--warm-up", f"{warm_up}s"] if warm_up else []
    command = [
        str(cargo_target() / "release" / "loadtest"), "hits", *target, "--least-bytes", str(least_bytes),
        "--token-file", str(callers), "--rate", str(rate), "--duration", f"{seconds}s", *warmed,
    ]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    if answer.returncode not in (0, 1) or not answer.stdout:
        raise BenchError(f"loadtest hits failed:\n{answer.stderr[-2000:]}")
    return tail_of(answer.stdout, round(rate * seconds), expected)


def tail_of(output: str, sent: int, expected: Sequence[str] = ("OK",)) -> Tail:
    """Reads what `loadtest hits` prints. Any code but the expected ones, or another number of answers than was sent, is an error:
    fast refusals must not count as fast answers."""
    measured = json.loads(output)
    codes: dict[str, int] = measured["codes"]
    if measured["not_sustained_because"]:
        raise BenchError(f"loadtest hits: {measured['not_sustained_because']}; answers: {codes}")
    if set(codes) != set(expected) or abs(sum(codes.values()) - sent) > 1:
        raise BenchError(f"loadtest hits: {sent} requests were due, all to be answered {' or '.join(expected)}; answers: {codes}")
    times, lag = measured["times"], measured["lag"]
    # A server that refuses all has no times of good answers.
    return Tail(
        codes, times["p50_us"] or 0, times["p99_us"] or 0, lag["p50_us"] or 0, lag["p99_us"] or 0, measured["rewritten"],
    )


# === redis-benchmark ===


def redis_get(program: str, port: int, key: str, requests: int, connections: int, pipelined: int) -> float:
    """One run of redis-benchmark. Returns its requests a second. The server must count the hits itself: the client does not check
    its answers."""
    output = run([
        program, "-h", "127.0.0.1", "-p", str(port), "-n", str(requests), "-c", str(connections), "-P", str(pipelined), "--csv",
        "GET", key,
    ])
    return redis_rate(output)


def redis_rate(output: str) -> float:
    """Reads what redis-benchmark prints with --csv."""
    rows = [row for row in csv.reader(output.splitlines()) if len(row) > 1 and row[0] != "test"]
    try:
        return float(rows[-1][1])
    except (IndexError, ValueError):
        raise BenchError(f"redis-benchmark printed no result:\n{output[-800:]}") from None


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


def run(command: list[str], folder: Path = REPOSITORY, environment: Mapping[str, str] | None = None) -> str:
    """Runs a command. Returns its output."""
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if answer.returncode != 0:
        raise BenchError(f"{' '.join(command[:3])} failed:\n{answer.stderr[-2000:]}{answer.stdout[-2000:]}")
    return answer.stdout
