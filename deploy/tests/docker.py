"""A fake `docker` for scripts/aws_checks.py. It builds nothing, but the registry and the tool see what a build leaves.

TAGGED_CONFIG_DOCKER chooses its behaviour: `down` (no daemon), `half` (builds config-service alone), or well.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import boto3  # the wrapper runs this with the virtual environment's Python

FARES = os.environ.get("TAGGED_CONFIG_DOCKER")


def main(arguments: list[str]) -> int:
    if arguments[0] == "info" and FARES == "down":
        return _fail("Cannot connect to the Docker daemon")
    if arguments[:2] != ["buildx", "build"]:
        return 0
    if "--output" in arguments:
        _functions(Path(arguments[arguments.index("--output") + 1]))
        return 0
    image = arguments[arguments.index("--tag") + 1]
    if FARES == "half" and "config-service" not in image:
        return _fail("no space left on device")
    _push(image)
    return 0


def _functions(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("invalidator", "jwks-mirror"):
        (folder / name).write_bytes(os.urandom(64))


def _push(image: str) -> None:
    url, _, tag = image.rpartition(":")
    digest = f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": digest},
        "layers": [],
    }
    registry, _, repository = url.partition("/")
    ecr = boto3.client("ecr", region_name=registry.split(".")[3])
    ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
