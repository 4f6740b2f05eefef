"""`make bench-peers`: compares config-service's cache hits with a minimal tonic server, the same service on NestJS, and Redis; its
REST interfaces with a minimal axum server and Unleash Edge; and measures its memory, all in one run.

Each connection has its own tenant and token. Each round measures every server once, in random order (--seed). Each ratio is
that of two measurements of one round; the table has the median of the rounds' ratios and the interval of the sign test. A target is met only if
the whole interval meets it. Everything shares this machine: only ratios are meaningful.

Exit codes: 0 every target is met; 1 the run failed; 2 a target is not met, or undecided.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "localstack"))

import bootstrap  # noqa: E402

if not bootstrap.is_current() or Path(sys.prefix).resolve() != bootstrap.VENV.resolve():
    bootstrap.ensure()
    os.execv(bootstrap.PYTHON, [str(bootstrap.PYTHON), *sys.argv])

from bench import machine  # noqa: E402
from bench.clients import run  # noqa: E402
from bench.hit import Hit  # noqa: E402
from bench.process import SOAK_ROUND, Process, inside  # noqa: E402
from bench.rest import Rest  # noqa: E402
from bench.rows import BenchError, Result, report  # noqa: E402
from bench.setup import Setup, say, versions  # noqa: E402
from bench.turns import Turns  # noqa: E402


def main() -> int:
    arguments = parsed()
    # A signal that ends this process ends the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result = Result(Turns(seed_of(arguments), processors_of(arguments), say), {})
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            measure(arguments, result, Path(folder), stack)
    except BenchError as error:
        # What was measured before the failure is printed and written.
        result.about["failed"] = str(error)
        report(result, arguments.json)
        print(f"error: {error}", file=sys.stderr)
        return 1
    return report(result, arguments.json)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="rounds; each measures every server once (default: %(default)s; an interval needs 6)")
    parser.add_argument("--seconds", type=float, default=2, help="length of one measurement (default: %(default)s)")
    parser.add_argument("--tenants", type=int, default=1_000, help="tenants with 100 keys each in the cache (default: %(default)s)")
    parser.add_argument("--soak", type=int, default=600, metavar="SECONDS", help="duration of the memory measurement under load, 0 to skip it (default: %(default)s)")
    parser.add_argument("--inside", type=int, default=6, metavar="RUNS", help="runs of the in-process benchmark, 0 to skip it (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the order of servers (default: random; it is printed)")
    parser.add_argument("--server-cpus", type=numbers, metavar="N,...", help="processors of the server under test (default: the first half)")
    parser.add_argument("--client-cpus", type=numbers, metavar="N,...", help="processors of the load generators and everything else (default: the others)")
    parser.add_argument("--json", metavar="FILE", help="also write the rows and all measurements to this file")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds <= 0 or arguments.tenants < 4:
        parser.error("--rounds takes 1 or more, --seconds more than 0, --tenants 4 or more")
    if 0 < arguments.soak < 6 * SOAK_ROUND:
        parser.error(f"--soak takes {6 * SOAK_ROUND} seconds or more, or 0")
    if not {*(arguments.server_cpus or ()), *(arguments.client_cpus or ())} <= os.sched_getaffinity(0):
        parser.error(f"this process may use processors {sorted(os.sched_getaffinity(0))} only")
    if arguments.json and not Path(arguments.json).resolve().parent.is_dir():
        parser.error(f"--json: there is no folder {Path(arguments.json).resolve().parent}")
    return arguments


def measure(arguments: argparse.Namespace, result: Result, folder: Path, stack: contextlib.ExitStack) -> None:
    """The whole run."""
    for program, package in (("h2load", "nghttp2-client"), ("taskset", "util-linux")):
        if not shutil.which(program):
            raise BenchError(f"{program} is not installed (Debian: apt-get install {package})")
    say("building (release)")
    run(["cargo", "build", "--locked", "--release", "--workspace"])
    run(["cargo", "build", "--locked", "--profile", "floor", "-p", "tonic-floor"])
    if arguments.inside:
        run(["cargo", "bench", "--locked", "-p", "config-service", "--bench", "limits", "--no-run"])
    turns = result.turns
    result.about |= {
        "commit": commit(), "seed": turns.seed, "machine": machine.described(turns.processors), "versions": versions(),
        "settings": {name: getattr(arguments, name) for name in ("rounds", "seconds", "tenants", "soak", "inside")},
    }
    say(
        f"order of servers from --seed {turns.seed}; server on processors {list(turns.processors.server)}, "
        f"everything else on {list(turns.processors.client)}"
    )
    # The server that is measured is put on its own processors when it starts.
    os.sched_setaffinity(0, turns.processors.client)
    setup = Setup(arguments.tenants, turns.processors, folder, stack)
    say(f"seeding {arguments.tenants:,} tenants with 100 keys each")
    setup.start(result)
    Hit(setup, result, arguments.rounds, arguments.seconds).measure()
    Rest(setup, result, arguments.rounds, arguments.seconds).measure()
    process = Process(setup, result)
    if arguments.soak:
        process.soak(arguments.soak)
    process.starts()
    if arguments.inside:
        inside(result, arguments.inside)


def processors_of(arguments: argparse.Namespace) -> machine.Processors:
    split = machine.Processors.split(os.sched_getaffinity(0))
    return machine.Processors(arguments.server_cpus or split.server, arguments.client_cpus or split.client)


def seed_of(arguments: argparse.Namespace) -> int:
    return random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed


def commit() -> str:
    changed = run(["git", "status", "--porcelain", "--untracked-files=no"]).strip()
    return run(["git", "rev-parse", "--short=12", "HEAD"]).strip() + ("-dirty" if changed else "")


def numbers(value: str) -> tuple[int, ...]:
    return tuple(sorted({int(one) for one in value.split(",")}))


if __name__ == "__main__":
    sys.exit(main())
