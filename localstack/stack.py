#!/usr/bin/env python3
"""The local stack's command line; the Makefile's targets call it. `stack.py --help` lists the commands."""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):
    found = "%d.%d" % sys.version_info[:2]
    sys.exit("error: Python " + found + " is older than 3.10: install a newer one and put it first in the PATH")

import argparse
import json
import os
import signal as signals
from pathlib import Path

import bootstrap
from ecs_tasks import CREDENTIALS_HOST
from launcher import containers, emulator, localstack, network, prerequisites, processes, running, settings as stack_settings
from launcher.errors import StackError
from launcher.layout import SHARED, Layout
from launcher.progress import Progress

NEEDS_VENV = {"up", "hide", "credentials", "restart", "rolling-restart", "scale", "provision", "demo", "token"}
CONTAINERS = {"auto": None, "1": True, "0": False}


def main() -> int:
    """Runs one command. 0: done; 1: failed, with one message; 2: not available."""
    arguments = _parser().parse_args()
    layout = Layout(Path(arguments.state_dir).resolve())
    try:
        if arguments.command in NEEDS_VENV:
            _enter_venv()
        return COMMANDS[arguments.command](arguments, layout)
    except (StackError, bootstrap.BootstrapError) as error:
        print(f"error: {error}", file=sys.stderr)
        if getattr(error, "log", None):
            print(f"  log: {error.log}", file=sys.stderr)
            for line in processes.tail(error.log, 12).splitlines():
                print(f"       | {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: what this command started is stopped", file=sys.stderr)
        return 130


def up(arguments: argparse.Namespace, layout: Layout) -> int:
    """Builds and starts the stack."""
    from launcher import lifecycle

    progress = Progress()
    stack = lifecycle.up(
        layout,
        progress,
        profile=arguments.profile,
        ephemeral=arguments.ephemeral,
        config_replicas=arguments.replicas,
        bin_dir=str(Path(arguments.bin_dir).resolve()) if arguments.bin_dir else None,
        in_containers=CONTAINERS[arguments.containers],
        with_localstack=arguments.emulator == "localstack",
    )
    progress.line("ready")
    if not arguments.ephemeral:
        _print_welcome(stack)
    return 0


def down(_: argparse.Namespace, layout: Layout) -> int:
    """Stops the stack and removes its state."""
    kept = running.down(layout)
    print("the local stack is down: no process and no state is left")
    if kept:
        print(f"kept in {layout.root} to start faster next time: {', '.join(kept)}")
    return 0


def status(_: argparse.Namespace, layout: Layout) -> int:
    """Shows what runs. Exits 1 unless all of it does."""
    stack = stack_settings.load(layout)
    if stack is None:
        print("no stack runs here: start one with `make local`")
        return 1
    stack.refresh_addresses()
    replicas = {replica.name: replica for replica in stack.replicas}
    records = processes.recorded(layout)
    healthy = stack.ready
    for name in ["emulator", *replicas]:
        record = records.get(name)
        if stack.docker_network and name in replicas:
            address = replicas[name].http_address
            state = "ready" if network.is_ready(address) else "not ready"
            healthy = healthy and state == "ready"
            print(f"{name:<10} {state:<10} {address:<22} container")
            continue
        address = replicas[name].http_address if name in replicas else stack.emulator_url.removeprefix("http://")
        if record is None or not record.running:
            state = "stopped"
        elif name in replicas and not network.is_ready(replicas[name].http_address):
            state = "not ready"
        else:
            state = "ready"
        healthy = healthy and state == "ready"
        pid = f"pid {record.pid}" if record and record.running else ""
        print(f"{name:<10} {state:<10} {address:<22} {pid:<12} {layout.log(name)}")
    if stack.with_localstack:
        state = "ready" if localstack.answers(stack) else "not ready"
        healthy = healthy and state == "ready"
        print(f"{'localstack':<10} {state:<10} {stack.stores_url.removeprefix('http://'):<22} container")
    if stack.ready:
        print(f"{'edge':<10} {'':<10} {stack.api_url}")
    return 0 if healthy else 1


def logs(arguments: argparse.Namespace, layout: Layout) -> int:
    """Prints the end of one log, or of the services' logs."""
    if arguments.name:
        names = [arguments.name]
    else:
        names = sorted(file.stem for file in layout.logs.glob("*.log") if file.stem not in ("build", "terraform"))
    stack = stack_settings.load(layout)
    if stack and stack.docker_network:
        stack.refresh_addresses()
        replicas = [replica for replica in stack.replicas if arguments.name in (None, replica.name)]
        for replica in replicas:
            print(f"==> {replica.name}, {replica.address}")
            print(containers.logs(containers.container_at(stack.docker_network, replica.address), arguments.lines))
        names = [name for name in names if name not in {replica.name for replica in replicas}]
    for name in names:
        log = layout.log(name)
        if not log.exists():
            known = ", ".join(sorted(file.stem for file in layout.logs.glob("*.log"))) or "none"
            raise StackError(f"there is no log named {name}: there is {known}")
        print(f"==> {log}")
        print(processes.tail(log, arguments.lines))
    return 0


def env(_: argparse.Namespace, layout: Layout) -> int:
    """Prints the stack's variables for a shell to evaluate."""
    stack = running.require_ready(layout)
    variables = stack.environment()
    if not stack.with_localstack:
        variables["TAGGED_CONFIG_FAULTS_URL"] = emulator.faults_url(stack)
    if stack.docker_network:
        variables["TAGGED_CONFIG_DOCKER_NETWORK"] = stack.docker_network
        for service, image in stack.images.items():
            variables[f"TAGGED_CONFIG_{service.upper().replace('-', '_')}_IMAGE"] = image
    for name, value in variables.items():
        quoted = value.replace("'", "'\\''")
        print(f"export {name}='{quoted}'")
    return 0


def why(_: argparse.Namespace, layout: Layout) -> int:
    """Explains the calls that were denied: who, what, on which resource, and which policy would have to allow it."""
    from launcher import why as denials

    stack = running.require_ready(layout)
    if not stack.enforces_iam:
        print("this stack enforces no IAM: LocalStack has the stores")
        return 0
    found = denials.explain(stack)
    print("\n\n".join(found) if found else "no call was denied since the emulator started")
    return 0


def harness(_: argparse.Namespace, layout: Layout) -> int:
    """Builds the load test's harness as the running stack's programs are built; the last line is its path."""
    from launcher import build

    stack = running.require_ready(layout)
    print(build.harness(layout, stack, Progress(sys.stderr)))
    return 0


def restart(arguments: argparse.Namespace, layout: Layout) -> int:
    """Restarts one replica."""
    from launcher import lifecycle

    lifecycle.restart(layout, Progress(), [arguments.name], if_down=arguments.if_down)
    return 0


def rolling_restart(_: argparse.Namespace, layout: Layout) -> int:
    """Restarts the replicas one by one."""
    from launcher import lifecycle

    lifecycle.restart(layout, Progress(), [])
    return 0


def scale(arguments: argparse.Namespace, layout: Layout) -> int:
    """Changes the number of config-service's tasks."""
    from launcher import lifecycle

    lifecycle.scale(layout, Progress(), arguments.count)
    return 0


def signal(arguments: argparse.Namespace, layout: Layout) -> int:
    """Stops (STOP), continues (CONT) or kills (KILL) a replica, as the fault suite does."""
    stack = running.require_ready(layout)
    replica = next((one for one in stack.replicas if one.name == arguments.name), None)
    if replica is None:
        raise StackError(f"no replica is named {arguments.name}")
    if stack.docker_network:
        containers.signal(containers.container_at(stack.docker_network, replica.address), arguments.signal)
        return 0
    record = processes.find(layout, replica.name)
    if record is None or not record.running:
        raise StackError(f"{replica.name} does not run")
    os.kill(record.pid, signals.Signals[f"SIG{arguments.signal}"])
    return 0


def hide(arguments: argparse.Namespace, layout: Layout) -> int:
    """Takes a replica out of Cloud Map for some seconds, as the fault suite does."""
    from launcher import discovery

    stack = running.require_ready(layout)
    replica = next((one for one in stack.config if one.name == arguments.name), None)
    if replica is None:
        raise StackError(f"no replica of config-service is named {arguments.name}")
    discovery.hide(stack, replica, arguments.seconds)
    return 0


def credentials(arguments: argparse.Namespace, layout: Layout) -> int:
    """Prints a session of a program's role for a shell to evaluate, or where an SDK finds and renews one."""
    from launcher import credentials as sessions

    stack = running.require_ready(layout)
    find = sessions.of_task if arguments.renewed else sessions.of_session
    for name, value in find(stack, arguments.role, arguments.role).items():
        print(f"export {name}='{value}'")
    return 0


def provision(arguments: argparse.Namespace, layout: Layout) -> int:
    """Applies Terraform and the seed to an emulator that runs outside this launcher; the last line is JSON for tests."""
    from launcher import provision as provisioning

    found = provisioning.provision(layout, Progress(), arguments.host, arguments.port, arguments.profile)
    print(json.dumps(found))
    return 0


def emulator_image(_: argparse.Namespace, layout: Layout) -> int:
    """Builds the emulator's own image, for tests that want it in a container; prints its name."""
    layout.make()
    progress = Progress(sys.stderr)
    with progress.step("emulator's image") as step:
        image = containers.build_emulator(layout, step)
    print(image)
    return 0


def has_containers(_: argparse.Namespace, __: Layout) -> int:
    """Says in one line why services cannot run as containers here, and exits 1; 0 when they can."""
    reason = containers.why_not()
    try:
        if reason:
            raise containers.Unavailable(reason)
        with Progress(sys.stderr).step("base images") as step:
            containers.require_bases(step)
    except containers.Unavailable as error:
        print(f"no containers here: {error}")
        return 1
    return 0


def doctor(_: argparse.Namespace, layout: Layout) -> int:
    """Checks the machine; exits 1 when something is missing."""
    stack = stack_settings.load(layout) or stack_settings.Settings(
        "", stack_settings.DEFAULT_EMULATOR_PORT, stack_settings.DEFAULT_NETWORK, ""
    )
    held = {name for name, record in processes.recorded(layout).items() if record.running}
    findings = [*prerequisites.check_tools(), *prerequisites.check_ports(stack, held)]
    for finding in findings:
        print(f"{'ok     ' if finding.good else 'MISSING'} {finding.text}")
    reason = containers.why_not()
    print(f"ok      services run as {'processes: ' + reason if reason else 'containers'}")
    return 0 if all(finding.good for finding in findings) else 1


def demo(_: argparse.Namespace, layout: Layout) -> int:
    """Runs the demonstration against the running stack."""
    import demo as demonstration

    return demonstration.run(running.require_ready(layout))


def token(arguments: argparse.Namespace, layout: Layout) -> int:
    """Prints the ID token of a user, for curl and other tools."""
    from launcher import aws

    stack = running.require_ready(layout)
    with aws.reported(layout.log("emulator")):
        print(aws.sign_in(stack, arguments.email))
    return 0


PROFILES = ("local", "release", "dev")
COMMANDS = {
    "up": up,
    "down": down,
    "status": status,
    "logs": logs,
    "env": env,
    "harness": harness,
    "restart": restart,
    "rolling-restart": rolling_restart,
    "scale": scale,
    "signal": signal,
    "why": why,
    "hide": hide,
    "credentials": credentials,
    "provision": provision,
    "emulator-image": emulator_image,
    "has-containers": has_containers,
    "doctor": doctor,
    "demo": demo,
    "token": token,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stack.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.add_argument("--state-dir", default=SHARED, metavar="DIR", help="the stack's folder (default: .local)")
        if name == "up":
            command.add_argument("--profile", choices=PROFILES, default="local", help="cargo's (default: local)")
            command.add_argument("--ephemeral", action="store_true", help="free ports and addresses, for tests")
            command.add_argument("--replicas", type=int, choices=range(1, stack_settings.MAX_REPLICAS + 1), default=2, metavar="N",
                                 help="replicas of config-service (default: 2)")
            command.add_argument("--bin-dir", metavar="DIR", help="ready binaries to run instead of building")
            command.add_argument("--emulator", choices=stack_settings.EMULATORS, default=stack_settings.MINISTACK,
                                 help="localstack: LocalStack has the stores, MiniStack the rest (default: ministack)")
            command.add_argument("--containers", choices=CONTAINERS, default="0",
                                 help="services as ECS tasks in containers (default: 0; auto: where Docker is at hand)")
        if name == "scale":
            command.add_argument("count", type=int, choices=range(1, stack_settings.MAX_REPLICAS + 1), metavar="N", help="tasks of config-service")
        if name == "signal":
            command.add_argument("name", help="the replica, e.g. config-1")
            command.add_argument("signal", choices=("STOP", "CONT", "KILL"))
        if name == "hide":
            command.add_argument("name", help="the replica, e.g. config-1")
            command.add_argument("seconds", type=float)
        if name == "credentials":
            command.add_argument("role", help="config-service, order-service, execution or load-test")
            command.add_argument("--renewed", action="store_true", help="the credentials endpoint, for runs longer than one session")
        if name == "provision":
            command.add_argument("host", help="where the emulator is, for this machine and for the services")
            command.add_argument("--port", type=int, default=stack_settings.DEFAULT_EMULATOR_PORT)
            command.add_argument("--profile", choices=PROFILES, default="dev", help="of the invalidator's binary")
        if name == "token":
            command.add_argument("email", nargs="?", default=stack_settings.USERS["TENANT_A_USER"][0],
                                 help="the user (default: %(default)s)")
        if name == "restart":
            command.add_argument("name", help="the replica, e.g. config-1")
            command.add_argument("--if-down", action="store_true", help="only if it does not run")
        if name == "logs":
            command.add_argument("name", nargs="?", help="one log, e.g. config-1, emulator, terraform, build")
            command.add_argument("--lines", type=int, default=20)
    return parser


def _enter_venv() -> None:
    """Restarts this program with the virtual environment's Python, which it creates first if it is missing."""
    if Path(sys.prefix).resolve() == bootstrap.VENV.resolve() and bootstrap.is_current():
        return
    if not bootstrap.is_current():
        prerequisites.require(prerequisites.check_tools())
        with Progress().step("python") as step:
            bootstrap.ensure()
            step.detail = f"made {bootstrap.VENV}"
    os.execv(bootstrap.PYTHON, [str(bootstrap.PYTHON), *sys.argv])


def _print_welcome(stack: stack_settings.Settings) -> None:
    stores = f"\n  LocalStack (stores)  {stack.stores_url}" if stack.with_localstack else ""
    replicas = "  ".join(f"http://{replica.http_address}" for replica in stack.config)
    ports = "  ".join(f"{replica.address}:{replica.grpc}, :{replica.refresh}" for replica in stack.config)
    tasks = f"\n  (for containers)     http://{CREDENTIALS_HOST}:{stack.emulator_port}" if stack.docker_network else ""
    print(f"""
  edge (API Gateway)   {stack.api_url}
  config-service       {replicas}
  order-service        http://{stack.order.http_address}
  gRPC, refresh        {ports}
  emulator (AWS API)   {stack.emulator_url}{tasks}{stores}

Try:
  make demo
  curl -H "Authorization: Bearer $(make -s local-token)" {stack.api_url}/v1/config/tenant_config_featureFlagX
  make local-status    # and, at the end: make local-down
""")


if __name__ == "__main__":
    sys.exit(main())
