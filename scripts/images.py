#!/usr/bin/env python3
"""Builds the images of the services and of the load test, checks them, and prints what of each is our own.

`make images PLATFORM=linux/amd64,linux/arm64` builds for other processors, too, where docker has buildx. Base images come
from TAGGED_CONFIG_BUILDER_IMAGE and TAGGED_CONFIG_RUNTIME_IMAGE, else the public ones. With cargo-cyclonedx installed
(`cargo install --locked cargo-cyclonedx`) a bill of materials of each program lies in target/sbom.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "localstack"))

from launcher import containers  # noqa: E402
from launcher.errors import StackError  # noqa: E402
from launcher.progress import Progress  # noqa: E402

IMAGES = containers.DOCKERFILES | {"loadtest": "loadtest/Dockerfile"}
LIMIT_BYTES = 40_000_000
"""The upper limit of our own layers of an image."""
NATIVE = "linux/arm64" if platform.machine() in ("arm64", "aarch64") else "linux/amd64"


def main() -> int:
    """0 when every image is built and as it should be."""
    platforms = [one for one in os.environ.get("PLATFORM", NATIVE).split(",") if one]
    try:
        reason = why_not()
        if reason:
            raise StackError(f"images cannot be built: {reason}")
        progress = Progress()
        with progress.step("base images") as step:
            containers.require_bases(step)
        for one in platforms:
            for program, dockerfile in IMAGES.items():
                with progress.step(f"{program} {one}") as step:
                    step.detail = build(program, dockerfile, one)
        bill_of_materials(progress)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def why_not() -> str | None:
    """Why no image can be built here; None when they can. To run them takes more (the local stack's own check)."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    answer = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True)
    if answer.returncode != 0:
        return f"the Docker daemon does not answer ({' '.join(answer.stderr.split())[-200:]})"
    if containers.with_buildkit() is None:
        return "docker has no BuildKit (Debian: apt-get install docker-buildx-plugin)"
    return None


def build(program: str, dockerfile: str, for_platform: str) -> str:
    """Builds one image. Returns its name, and the size of our own layers."""
    image = f"{containers.PREFIX}/{program}:{for_platform.rpartition('/')[2]}"
    command = [containers.with_buildkit() or "docker", "build", "--file", dockerfile, "--tag", image]
    if for_platform != NATIVE:
        command += ["--platform", for_platform]
    with tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False) as log:
        answer = subprocess.run(
            [*command, *containers.arguments(containers.revision()), "."],
            cwd=REPOSITORY,
            env=os.environ | {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.seek(0)
        if answer.returncode != 0:
            raise StackError(f"building {program} failed: {log.name}\n{''.join(log.readlines()[-15:])}")
    os.unlink(log.name)
    found = inspect(image)
    configuration = found["Config"]
    own = found["Size"] - inspect(containers.base("RUNTIME"))["Size"]
    problems = []
    if own > LIMIT_BYTES:
        problems.append(f"our own layers have {own / 1e6:.1f} MB, more than {LIMIT_BYTES / 1e6:.0f}")
    if configuration["User"] in ("", "root", "0", "0:0"):
        problems.append("it runs as root")
    for label in ("source", "revision", "licenses", "title"):
        if not configuration["Labels"].get(f"org.opencontainers.image.{label}"):
            problems.append(f"it has no label {label}")
    if problems:
        raise StackError(f"{image}: {'; '.join(problems)}")
    return f"{image}, own layers {own / 1e6:.1f} MB, user {configuration['User']}"


def inspect(image: str) -> dict:
    """Docker's description of an image."""
    answer = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True)
    if answer.returncode != 0:
        raise StackError(f"docker image inspect {image} failed: {answer.stderr.strip()}")
    return json.loads(answer.stdout)[0]


def bill_of_materials(progress: Progress) -> None:
    """Writes CycloneDX documents of the compiled dependencies."""
    with progress.step("bill of materials") as step:
        if shutil.which("cargo-cyclonedx") is None:
            step.detail = "skipped: cargo-cyclonedx is not installed (cargo install --locked cargo-cyclonedx)"
            return
        folder = REPOSITORY / "target" / "sbom"
        folder.mkdir(parents=True, exist_ok=True)
        for program, dockerfile in IMAGES.items():
            source = REPOSITORY / Path(dockerfile).parent
            answer = subprocess.run(
                ["cargo", "cyclonedx", "--format", "json", "--manifest-path", str(source / "Cargo.toml"),
                 "--override-filename", "bom"],
                cwd=REPOSITORY, capture_output=True, text=True,
            )
            # It leaves one beside the manifest of every member of the workspace.
            written = [file for file in REPOSITORY.glob("*/**/bom.json") if "target" not in file.parts]
            if answer.returncode != 0 or not (source / "bom.json").exists():
                raise StackError(f"cargo cyclonedx failed: {answer.stderr.strip()[-300:]}")
            shutil.move(source / "bom.json", folder / f"{program}.cdx.json")
            for file in written:
                file.unlink(missing_ok=True)
        step.detail = str(folder.relative_to(REPOSITORY))


if __name__ == "__main__":
    sys.exit(main())
