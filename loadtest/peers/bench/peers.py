"""The peers that are not of this repository's workspace: built or found, where that is possible, and else left out with the way to
get them."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from launcher.layout import CACHE

from .clients import run
from .rows import BenchError

BASELINE = Path(__file__).resolve().parents[1] / "baseline"
EDGE_CRATE, EDGE_VERSION = "unleash-edge", "20.1.0"
"""MIT, as are all crates of its workspace that it is built of. What it stores to (S3) is left out: offline mode stores nothing."""
REDIS_PROGRAMS = (("valkey-server", "valkey-benchmark"), ("redis-server", "redis-benchmark"))


class LeftOut(Exception):
    """Why a peer is not measured, and what to do."""


def nestjs_program(say: Callable[[str], None]) -> Path:
    """The NestJS service in one file, built where it does not litter the repository."""
    if not shutil.which("npm") or not shutil.which("node"):
        raise LeftOut("NestJS: node and npm are not installed (Node 20 or newer)")
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


def edge_program(say: Callable[[str], None]) -> Path:
    """Unleash Edge of this version, from crates.io, built into the cache of this repository."""
    root = CACHE / f"{EDGE_CRATE}-{EDGE_VERSION}"
    program = root / "bin" / EDGE_CRATE
    if not program.exists():
        say(f"building {EDGE_CRATE} {EDGE_VERSION} (once; ten minutes on two processors)")
        environment = os.environ | {"CARGO_TARGET_DIR": str(root / "target")}
        try:
            run([
                "cargo", "install", EDGE_CRATE, "--version", f"={EDGE_VERSION}", "--locked", "--no-default-features",
                "--root", str(root),
            ], CACHE, environment)
        except BenchError as error:
            raise LeftOut(f"Unleash Edge: cargo install {EDGE_CRATE} --version {EDGE_VERSION} failed: {str(error)[-300:]}") from error
        shutil.rmtree(root / "target", ignore_errors=True)
    return program


def redis_programs() -> tuple[str, str]:
    """A server and its load generator."""
    for server, generator in REDIS_PROGRAMS:
        if shutil.which(server) and shutil.which(generator):
            return server, generator
    raise LeftOut("GET of Redis or Valkey: not installed (Debian: apt-get install redis-server, or valkey)")


def redis_command(port: int, *words: str) -> str:
    """Sends one command. Returns its answer as it came."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request.encode())
        answer = connection.recv(65_536)
        # A bulk string begins with its length.
        while answer.startswith(b"$") and len(answer) < int(answer[1:].partition(b"\r\n")[0]):
            answer += connection.recv(65_536)
    if not answer or answer.startswith(b"-"):
        raise BenchError(f"the Redis server answered {words[0]} with {answer!r}")
    return answer.decode()


def redis_hits(port: int) -> tuple[int, int]:
    """The GETs that found their key, and those that did not, since the start."""
    fields = dict(line.split(":", 1) for line in redis_command(port, "INFO", "stats").splitlines() if ":" in line)
    return int(fields["keyspace_hits"]), int(fields["keyspace_misses"])
