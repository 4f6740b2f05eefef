"""Finds Terraform, or downloads the pinned release from HashiCorp and verifies it by the checksums below."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

from .errors import StackError
from .layout import BIN

MINIMUM = (1, 11)
PINNED = "1.11.4"
SHA256 = {
    "darwin_amd64": "a56d5002b9f7647291faccc3dd1a70350e60fb61e4c45037629508b8fdc2575b",
    "darwin_arm64": "867e0808fa971217043e25b7a792b10720c79b1546f8a68479b74f138be73e18",
    "linux_amd64": "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc",
    "linux_arm64": "a43d1d0da9b9bab214a8305a39db0e40869572594ccf50c416a7756499143633",
}
"""The checksums of the release's zip files, from its terraform_1.11.4_SHA256SUMS."""


def version(binary: str | Path) -> str | None:
    """The version that a Terraform binary reports."""
    try:
        answer = subprocess.run([str(binary), "version", "-json"], capture_output=True, text=True, timeout=30)
        return json.loads(answer.stdout)["terraform_version"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None


def find() -> Path | None:
    """Terraform on the PATH if it is new enough, else the one that was downloaded before."""
    for candidate in (shutil.which("terraform"), BIN / "terraform"):
        if candidate and _new_enough(version(candidate)):
            return Path(candidate)
    return None


def find_or_fetch() -> Path:
    """A Terraform that is new enough."""
    return find() or fetch()


def fetch() -> Path:
    """Downloads the pinned release into the project's own folder."""
    name = f"{sys.platform}_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"
    if name not in SHA256:
        raise StackError(f"no Terraform is pinned for {name}: install Terraform >= 1.11 yourself")
    url = f"https://releases.hashicorp.com/terraform/{PINNED}/terraform_{PINNED}_{name}.zip"
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            archive = answer.read()
    except OSError as error:
        raise StackError(
            f"Terraform >= 1.11 is not installed, and {url} could not be fetched ({error}): "
            "install it from https://developer.hashicorp.com/terraform/install"
        ) from error
    return install(archive, SHA256[name])


def install(archive: bytes, expected_sha256: str) -> Path:
    """Unpacks a release's zip after checking its sum."""
    if hashlib.sha256(archive).hexdigest() != expected_sha256:
        raise StackError(f"the Terraform {PINNED} download does not have the pinned SHA-256: it was not installed")
    BIN.mkdir(parents=True, exist_ok=True)
    draft = BIN / f"terraform.{os.getpid()}"
    with zipfile.ZipFile(io.BytesIO(archive)) as release:
        draft.write_bytes(release.read("terraform"))
    draft.chmod(0o755)
    os.replace(draft, BIN / "terraform")
    return BIN / "terraform"


def _new_enough(found: str | None) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", found or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= MINIMUM
