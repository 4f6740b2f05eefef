"""Applies terraform/local to the emulator.

It works on a copy in the stack's folder, with working data and state beside it: Terraform writes files next to the code, and several
stacks (and a person's editor) must not share them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

from . import aws, build, commands, credentials, emulator, network, terraform_binary
from .errors import StackError
from .layout import CACHE, REPOSITORY, TERRAFORM, Layout
from .progress import Step
from .settings import REGION, Settings

ROOT = "local"
DEPLOYER = "deployer"
DEPLOYER_ROLE = "tagged-config-deployer-local"
LOG = "terraform"
MIRROR_VARIABLE = "TAGGED_CONFIG_TERRAFORM_PLUGIN_DIR"
_PROVIDER = Path("registry.terraform.io", "hashicorp", "aws")
REGISTRY = f"https://{_PROVIDER.parts[0]}/.well-known/terraform.json"
_SKIPPED = {"proc", "sys", "dev", "run", "snap", "node_modules", "target", "lost+found"}
_SEARCH_DEPTH = 5
_SEARCH_SECONDS = 5.0


def apply(
    layout: Layout,
    settings: Settings,
    step: Step,
    *,
    watch: Callable[[], None] | None = None,
    target: str | None = None,
) -> None:
    """init, apply and the outputs, unless the same inputs were applied to this emulator before.

    With `target`, only that module is applied, and nothing else is read. `watch` raises when going on is in vain; by default, when this stack's own emulator is gone."""
    variables = {
        "emulator_url": settings.emulator_url,
        "stores_url": settings.stores_url,
        "region": REGION,
        "invalidator_zip": str(layout.invalidator_zip),
        "invalidator_architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
        "config_grpc_port": str(settings.ports.grpc),
        "config_refresh_port": str(settings.ports.refresh),
        "config_http_port": str(settings.ports.http),
        "order_http_port": str(settings.ports.order_http),
        "images": json.dumps(settings.images),
        "config_tasks": str(settings.config_replicas),
    }
    inputs = _inputs(layout, variables)
    if settings.applied == inputs:
        step.detail = "unchanged"
        return
    binary = terraform_binary.find_or_fetch()
    source = working_copy(layout.terraform / "source")
    watch = watch or (lambda: emulator.require_running(layout))

    def run(root: str, variables: Mapping[str, str], keys: Mapping[str, str], *options: str) -> None:
        data = layout.terraform / f"data-{root}"
        initialise(binary, source / root, data, step, layout.log(LOG))
        commands.run(
            [
                str(binary), "apply", "-input=false", "-auto-approve", "-no-color", "-compact-warnings", "-parallelism=20",
                f"-state={_state(layout, root)}", "-backup=-", *options,
                *(f"-var={name}={value}" for name, value in variables.items()),
            ],
            step=step,
            log=layout.log(LOG),
            failure=f"terraform apply of terraform/{root} failed",
            timeout_seconds=900,
            cwd=source / root,
            # The proxy stays for the registry of providers.
            environment=environment(data) | settings.no_proxy() | dict(keys),
            watch=watch,
        )

    keys: Mapping[str, str] = credentials.ROOT
    if settings.enforces_iam:
        # As on AWS: the account's root creates the deployer's role, and the deployer creates everything else.
        if target is None:
            run(DEPLOYER, {}, credentials.ROOT | settings.endpoints(), "-var-file=local.tfvars")
        keys = aws.assume_role(settings, DEPLOYER_ROLE, "terraform")
    run(ROOT, variables, keys, *(("-refresh=false", f"-target={target}") if target else ()))
    settings.outputs = _outputs(binary, source / ROOT, layout, layout.terraform / f"data-{ROOT}")
    settings.applied = inputs
    step.detail = f"applied {_resource_count(layout)} resources"


def working_copy(folder: Path) -> Path:
    """Copies terraform/ into this folder, beside links to all that it may refer to. Returns the copy."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for entry in REPOSITORY.iterdir():
        if entry != TERRAFORM and not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry)
    return Path(
        shutil.copytree(TERRAFORM, folder / TERRAFORM.name, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    )


def initialise(
    binary: Path,
    root: Path,
    data: Path,
    step: Step,
    log: Path,
    *,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> None:
    """terraform init. With the internet it is plain; without, from a provider mirror on this machine.

    `variables` is the environment, by default the emulator's.

    The mirror is the folder that TAGGED_CONFIG_TERRAFORM_PLUGIN_DIR names, or one found by a short search.
    """
    mirror = _mirror()
    flags = [f"-plugin-dir={mirror}"] if mirror else []
    if not mirror:
        (CACHE / "providers").mkdir(parents=True, exist_ok=True)
    commands.run(
        [str(binary), "init", "-input=false", "-no-color", *flags, *options],
        step=step,
        log=log,
        failure="terraform init failed"
        + ("" if mirror else f" (offline? put a provider mirror's folder into {MIRROR_VARIABLE})"),
        timeout_seconds=900,
        cwd=root,
        environment=environment(data) if variables is None else variables,
    )


def environment(data: Path) -> dict[str, str]:
    """What Terraform sees: the emulated account's root, and nothing of the person's own AWS configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_", "TAGGED_CONFIG_"))}
    # For Terraform, a CLI configuration that is named but missing is an error.
    configuration = os.environ.get("TF_CLI_CONFIG_FILE")
    if configuration and Path(configuration).is_file():
        kept["TF_CLI_CONFIG_FILE"] = configuration
    return kept | {
        "TF_DATA_DIR": str(data),
        "TF_IN_AUTOMATION": "1",
        "TF_PLUGIN_CACHE_DIR": str(CACHE / "providers") if (CACHE / "providers").is_dir() else "",
        "CHECKPOINT_DISABLE": "1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _mirror() -> Path | None:
    """The provider mirror to use, or None for the public registry.

    The registry comes first where it answers: it verifies what it serves. The answer of a search is remembered.
    """
    named = os.environ.get(MIRROR_VARIABLE)
    if named:
        if not (Path(named) / _PROVIDER).is_dir():
            raise StackError(f"{MIRROR_VARIABLE}={named}: there is no {_PROVIDER} in that folder")
        return Path(named)
    remembered = CACHE / "terraform-mirror"
    if remembered.exists() and (Path(remembered.read_text()) / _PROVIDER).is_dir():
        return Path(remembered.read_text())
    status, _ = network.request(REGISTRY, timeout_seconds=3, proxied=True)
    if status == 200:
        return None
    found = _search()
    if found is not None:
        CACHE.mkdir(parents=True, exist_ok=True)
        remembered.write_text(str(found))
    return found


def _search() -> Path | None:
    """Searches for a mirror from the root of the file system down: nearest first, bounded in depth and time.

    What it finds is run as a program, so only a folder of this user or of root will do.
    """
    deadline = time.monotonic() + _SEARCH_SECONDS
    level = [Path("/")]
    for _ in range(_SEARCH_DEPTH):
        below = []
        for folder in level:
            if time.monotonic() > deadline:
                return None
            mirror = folder / _PROVIDER
            try:
                if mirror.is_dir() and mirror.stat().st_uid in (0, os.getuid()):
                    return folder
                below += [
                    Path(entry.path)
                    for entry in os.scandir(folder)
                    if entry.is_dir(follow_symlinks=False)
                    and entry.name not in _SKIPPED
                    and not entry.name.startswith(".")
                ]
            except OSError:
                continue
        level = below
    return None


def _state(layout: Layout, root: str = ROOT) -> Path:
    return layout.terraform / f"{root}.tfstate"


def _outputs(binary: Path, root: Path, layout: Layout, data: Path) -> dict[str, str]:
    answer = subprocess.run(
        [str(binary), "output", "-json", f"-state={_state(layout)}"],
        cwd=root,
        env=environment(data),
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        raise StackError(f"terraform output failed: {answer.stderr.strip()}", layout.log(LOG))
    return {name: output["value"] for name, output in json.loads(answer.stdout).items()}


def _resource_count(layout: Layout) -> int:
    resources = json.loads(_state(layout).read_text())["resources"]
    return sum(len(resource["instances"]) for resource in resources if resource["mode"] == "managed")


def _inputs(layout: Layout, variables: dict[str, str]) -> str:
    """A hash of everything that decides what an apply does."""
    result = hashlib.sha256(json.dumps(variables, sort_keys=True).encode())
    for file in sorted(TERRAFORM.rglob("*")):
        parts = file.relative_to(TERRAFORM).parts
        if file.is_file() and not any(part.startswith(".") for part in parts) and file.suffix in (".tf", ".tfvars", ".tftpl", ".json"):
            result.update(f"{'/'.join(parts)}\0{build.digest(file)}\0".encode())
    result.update(build.digest(layout.invalidator_zip).encode())
    return result.hexdigest()
