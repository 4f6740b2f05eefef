"""The services as containers: their images, their Docker network, and the ECS tasks that the emulator starts in it.

Everything goes through the `docker` command, so that no virtual environment is needed to find or to end a container.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ecs_tasks  # beside stack.py

from . import commands
from .errors import StackError
from .layout import REPOSITORY, Layout
from .progress import Step

DOCKERFILES = {
    "config-service": "services/config-service/Dockerfile",
    "order-service": "services/order-service/Dockerfile",
}
BASES = {
    "BUILDER": ("TAGGED_CONFIG_BUILDER_IMAGE", "rust:1.95-bookworm"),
    "RUNTIME": ("TAGGED_CONFIG_RUNTIME_IMAGE", "gcr.io/distroless/cc-debian13:nonroot"),
}
"""Base images, by build argument: the variable that names another image, and the public default."""
PREFIX = "localhost/tagged-config"
"""No registry has this name, so that a stack runs only what was built here."""
BUILD_SECONDS = 3600
SUBNETS = "10.213"
"""The range of the tasks' networks, which have 256 addresses each."""
SUBNETS_TRIED = 20


class Unavailable(StackError):
    """This machine cannot run containers. The message says why, and what to do."""


def why_not() -> str | None:
    """Why services cannot run as containers here; None when they can."""
    if sys.platform != "linux":
        return "containers' addresses are reachable from the machine itself on Linux only"
    if shutil.which("docker") is None:
        return "docker is not installed"
    if os.environ.get("DOCKER_HOST", "unix://").partition("://")[0] != "unix":
        return "DOCKER_HOST is another machine"
    answer = _docker("info", "--format", "{{.ServerVersion}}", check=False)
    if answer.returncode != 0:
        return f"the Docker daemon does not answer ({_last_line(answer.stderr)})"
    if with_buildkit() is None:
        return "docker has no BuildKit (Debian: apt-get install docker-buildx-plugin)"
    return None


def with_buildkit() -> str | None:
    """The first `docker` in the PATH that can build with BuildKit: by its plugin, or, before version 23, by itself."""
    for folder in os.get_exec_path():
        program = os.path.join(folder, "docker")
        if not os.access(program, os.X_OK):
            continue
        if subprocess.run([program, "buildx", "version"], capture_output=True).returncode == 0:
            return program
        answer = subprocess.run([program, "version", "--format", "{{.Client.Version}}"], capture_output=True, text=True)
        major = answer.stdout.partition(".")[0]
        if major.isdecimal() and int(major) < 23:
            return program
    return None


def base(argument: str) -> str:
    """The base image of this build argument."""
    variable, default = BASES[argument]
    return os.environ.get(variable) or default


def require_bases(step: Step) -> None:
    """Pulls the missing base images. Raises `Unavailable` if one cannot be pulled."""
    for argument, (variable, _) in BASES.items():
        require_image(base(argument), variable, step)


def require_image(image: str, variable: str, step: Step) -> None:
    """Pulls a missing image. Raises `Unavailable` if it cannot be pulled. `variable` can name another one."""
    if _docker("image", "inspect", image, check=False).returncode == 0:
        return
    step.activity(f"pulling {image}")
    answer = _docker("pull", "--quiet", image, check=False)
    if answer.returncode != 0:
        raise Unavailable(
            f"the image {image} is not here and cannot be pulled ({_last_line(answer.stderr)}): name another one in {variable}"
        )


def build(layout: Layout, step: Step, profile: str) -> dict[str, str]:
    """Builds the images; those of `dev` are of cargo's profile `local`, too. Returns the image of each service; its tag is a hash of its content."""
    images = {}
    docker = with_buildkit() or "docker"
    for service, dockerfile in DOCKERFILES.items():
        with tempfile.NamedTemporaryFile() as written:
            commands.run(
                [docker, "build", "--file", dockerfile, "--iidfile", written.name,
                 "--build-arg", f"PROFILE={'release' if profile == 'release' else 'local'}", *arguments(revision()), "."],
                step=step,
                log=layout.log("images"),
                failure=f"building the image of {service} failed",
                timeout_seconds=BUILD_SECONDS,
                cwd=REPOSITORY,
                environment=os.environ | {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"},
            )
            name = Path(written.name).read_text().strip()
        image = f"{PREFIX}/{service}:{name.removeprefix('sha256:')[:12]}"
        _docker("tag", name, image)
        images[service] = image
    return images


def build_emulator(layout: Layout, step: Step) -> str:
    """Builds the image of the emulator with its extensions."""
    image = f"{PREFIX}/emulator:local"
    base_image = os.environ.get("TAGGED_CONFIG_PYTHON_IMAGE") or "python:3.11-slim-bookworm"
    commands.run(
        [with_buildkit() or "docker", "build", "--file", "localstack/Dockerfile", "--build-arg", f"PYTHON={base_image}",
         "--tag", image, "."],
        step=step,
        log=layout.log("images"),
        failure="building the emulator's image failed",
        timeout_seconds=BUILD_SECONDS,
        cwd=REPOSITORY,
        environment=os.environ | {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"},
    )
    return image


def arguments(version: str) -> list[str]:
    """Options of `docker build` for every image of this repository."""
    bases = [option for argument in BASES for option in ("--build-arg", f"{argument}={base(argument)}")]
    return [*bases, "--label", f"org.opencontainers.image.revision={version}"]


def revision() -> str:
    """The commit that is built, with the suffix `-dirty` if the tree has further changes."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="], cwd=REPOSITORY, capture_output=True, text=True
    )
    return answer.stdout.strip() or "unknown"


def make_network(name: str) -> str:
    """Creates the network if it is missing. Returns its gateway: this machine's address for the containers."""
    if _docker("network", "inspect", name, check=False).returncode != 0:
        # Docker assigns chosen addresses only in a subnet that was also chosen.
        for number in random.sample(range(256), SUBNETS_TRIED):
            subnet = f"{SUBNETS}.{number}.0/24"
            answer = _docker("network", "create", "--subnet", subnet, "--label", "tagged-config=tasks", name, check=False)
            if answer.returncode == 0:
                break
        else:
            raise StackError(f"no Docker network could be made in {SUBNETS}.0.0/16: {_last_line(answer.stderr)}")
    configuration = _inspect(name)["IPAM"]["Config"][0]
    # Older versions of Docker do not name the gateway that they chose.
    return configuration.get("Gateway") or str(next(ipaddress.ip_network(configuration["Subnet"]).hosts()))


def addresses(network: str) -> dict[str, list[str]]:
    """The running containers of each service, by address."""
    found: dict[str, list[str]] = {service: [] for service in DOCKERFILES}
    for container in _inspect(network)["Containers"].values():
        for service in DOCKERFILES:
            if container["Name"].startswith("ministack-ecs-") and container["Name"].endswith(f"-{service}"):
                found[service].append(container["IPv4Address"].partition("/")[0])
    return {service: sorted(found[service], key=lambda address: [int(part) for part in address.split(".")]) for service in found}


def container_at(network: str, address: str) -> str:
    """The running container with this address."""
    for identifier, container in _inspect(network)["Containers"].items():
        if container["IPv4Address"].partition("/")[0] == address:
            return identifier
    raise StackError(f"no container has the address {address}")


def named(pattern: str) -> str | None:
    """The container, running or ended, whose name matches this regular expression, or None."""
    found = _docker("ps", "--all", "--quiet", "--filter", f"name=^/?{pattern}$").stdout.split()
    return found[0] if found else None


def task_of(container: str) -> str:
    """The ARN of the ECS task that a container is of."""
    answer = _docker("inspect", "--format", '{{index .Config.Labels "com.amazonaws.ecs.task-arn"}}', container)
    return answer.stdout.strip()


def signal(container: str, what: str) -> None:
    """STOP freezes a container, CONT continues it, KILL ends it at once."""
    command = {"STOP": ["pause"], "CONT": ["unpause"], "KILL": ["kill"]}[what]
    _docker(*command, container)


def logs(container: str, lines: int) -> str:
    """The end of a container's log."""
    answer = _docker("logs", "--tail", str(lines), container)
    return (answer.stdout + answer.stderr).rstrip()


def make_credentials_network() -> None:
    """Creates the network in which tasks find their credentials, if it is missing. All stacks of this machine share it."""
    name = ecs_tasks.CREDENTIALS_NETWORK
    answer = _docker(
        "network", "create", "--internal", "--subnet", ecs_tasks.CREDENTIALS_SUBNET, "--gateway", ecs_tasks.CREDENTIALS_HOST,
        name, check=False,
    )
    if answer.returncode != 0 and _docker("network", "inspect", name, check=False).returncode != 0:
        raise StackError(
            f"the Docker network {name} ({ecs_tasks.CREDENTIALS_SUBNET}), where tasks find their credentials, cannot be made: "
            f"{_last_line(answer.stderr)} (`make local DOCKER=0` runs the services as processes)"
        )


def remove_all(network: str) -> None:
    """Ends every container of the network, and removes it. The last stack removes the credentials' network, too."""
    if _docker("network", "inspect", network, check=False).returncode != 0:
        return
    left = _docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"network={network}").stdout.split()
    if left:
        _docker("rm", "--force", "--volumes", *left, check=False)
    _docker("network", "rm", network)
    _docker("network", "rm", ecs_tasks.CREDENTIALS_NETWORK, check=False)


def _inspect(network: str) -> dict:
    return json.loads(_docker("network", "inspect", network).stdout)[0]


def _docker(*words: str, check: bool = True) -> subprocess.CompletedProcess:
    answer = subprocess.run(["docker", *words], capture_output=True, text=True)
    if check and answer.returncode != 0:
        raise StackError(f"docker {words[0]} failed: {_last_line(answer.stderr)}")
    return answer


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
