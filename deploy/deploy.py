#!/usr/bin/env python3
"""Deploys to AWS, and removes what it deployed. The Makefile's targets call it. `deploy.py --help` lists the commands.

Credentials, region and endpoint are the AWS SDKs' own (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ...).
"""

from __future__ import annotations

import argparse
import os
import signal
import ssl
import sys
from pathlib import Path

OLDEST = (3, 10)
if sys.version_info < OLDEST:  # before syntax that such a Python cannot parse
    sys.exit(
        f"error: this is Python {sys.version.split()[0]}, and the AWS SDK wants 3.10 or newer: install one (macOS: brew install python) "
        "so that `python3` is that one"
    )

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

import bootstrap  # noqa: E402
import memory  # noqa: E402
from launcher import processes  # noqa: E402
from launcher.errors import StackError  # noqa: E402
from launcher.layout import SHARED  # noqa: E402


def main() -> int:
    """Runs one command. 0: done; 1: failed, with one message."""
    arguments = _parser().parse_args()
    # SIGTERM has the same effect as Ctrl-C: Terraform writes its state first.
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        _enter_venv()
        _trust_authorities()
        import commands  # needs the virtual environment

        try:
            return getattr(commands, arguments.command.replace("-", "_"))(arguments)
        except commands.AWS_ERRORS as error:
            raise StackError(commands.refusals.of_aws(error)) from error
    except (StackError, bootstrap.BootstrapError) as error:
        print(f"error: {error}", file=sys.stderr)
        if getattr(error, "log", None):
            print(f"  log: {error.log}", file=sys.stderr)
            for line in processes.tail(error.log, 25).splitlines():
                print(f"       | {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again, it goes on from where it was", file=sys.stderr)
        return 130


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _trust_authorities() -> None:
    """Uses the AWS SDK's certificates of authorities if Python has none (python.org's for macOS)."""
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not (paths.capath and os.listdir(paths.capath)):
        import certifi

        os.environ.setdefault("SSL_CERT_FILE", certifi.where())


def _enter_venv() -> None:
    python = bootstrap.ensure()
    if Path(sys.executable) != Path(python):
        os.execv(str(python), [str(python), *sys.argv])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, summary: str, *elsewhere: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary)
        sub.add_argument("--env", choices=["dev", "prod", *elsewhere], default="dev", help="environment (default: dev)")
        sub.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="a Terraform variable")
        sub.add_argument("--vars", action=_Variables, dest="var", metavar="'NAME=VALUE ...'", help="several, separated by spaces")
        return sub

    command("plan", "show what a deployment would change; needs no build")
    preflight = command("preflight", "find what would stop a deployment; fails if anything does")
    preflight.add_argument("--without-build", action="store_true", help="leave Docker out")
    deploy = command("deploy", "build, push, apply, and check that it answers")
    deploy.add_argument("--without-build", action="store_true", help="apply only: images and packages are there, or do not matter")
    rollback = command("rollback", "run an earlier version again")
    rollback.add_argument("--tag", help="the version (default: the one that ran before the current one)")
    rollback.add_argument("--without-build", action="store_true", help=argparse.SUPPRESS)
    destroy = command("destroy", "remove everything that was deployed, with all data")
    destroy.add_argument("--yes", metavar="ENV", help="the environment's name, which confirms without a prompt")
    command("destroy-verify", "list what is left of an environment; fails if anything is")
    command("bootstrap-state", "keep the state in an encrypted, versioned bucket from now on")
    command("status", "show the outputs of what is deployed")
    command("outputs", "print the outputs as Terraform's JSON, and nothing else, on standard output")
    token = command("token", "print a user's ID token; prompts for the password")
    token.add_argument("--user", metavar="EMAIL", help="who signs in")
    settings = command("account-settings", "give API Gateway a role to log with, for the whole account in this region")
    settings.add_argument("--remove", action="store_true", help="take it away again, where no API logs with it")
    redrive = command("redrive", "replay the invalidator's dead letters; fails if any stays", "local")
    redrive.add_argument("--dry-run", action="store_true", help="say what would happen to each message, and do nothing")
    redrive.add_argument("--discard-lost", action="store_true", help="delete messages about records that the stream has no more")
    redrive.add_argument("--max-messages", type=_count, metavar="N", help="read at most N messages")
    flush = command("flush", "make every task forget its cache, and read everything anew", "local")
    for sub in (redrive, flush):
        sub.add_argument("--state-dir", default=SHARED, metavar="DIR", help="the local stack's folder (default: .local)")
    return parser


class _Variables(argparse.Action):
    """Appends the variables of one text to those of `--var`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: str, *_: object) -> None:
        try:
            setattr(namespace, self.dest, [*getattr(namespace, self.dest), *memory.split(values)])
        except StackError as error:
            parser.error(str(error))


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
