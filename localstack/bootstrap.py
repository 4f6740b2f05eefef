"""Makes the virtual environment of the local stack, with nothing but the standard library.

`python3 localstack/bootstrap.py` prints the path of the environment's Python. It is made once, from
requirements.txt with hashes, and made again only when that file or the Python version changes. All stacks share it.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCAL = HERE.parent / ".local"
REQUIREMENTS = HERE / "requirements.txt"
VENV = LOCAL / "venv"
PYTHON = VENV / "bin" / "python"
LOG = LOCAL / "venv.log"
_MARKER = VENV / "made-from"


class BootstrapError(RuntimeError):
    """The virtual environment could not be made; the message says what to do."""


def is_current() -> bool:
    """Whether the environment exists and was made from today's requirements."""
    return PYTHON.exists() and _MARKER.exists() and _MARKER.read_text() == _fingerprint()


def ensure() -> Path:
    """Makes the environment if it is missing or out of date, and returns its Python."""
    LOCAL.mkdir(exist_ok=True)
    with open(LOCAL / "venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current():
            _make()
    return PYTHON


def _make() -> None:
    if VENV.exists():
        shutil.rmtree(VENV)
    with open(LOG, "w") as log:
        for command in (
            [sys.executable, "-m", "venv", str(VENV)],
            [str(PYTHON), "-m", "pip", "install", "--require-hashes", "--disable-pip-version-check",
             "--requirement", str(REQUIREMENTS)],
        ):
            result = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            if result.returncode != 0:
                raise BootstrapError(
                    f"could not make the Python environment {VENV}: see {LOG} "
                    "(Debian and Ubuntu: apt-get install python3-venv)"
                )
    _MARKER.write_text(_fingerprint())


def _fingerprint() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()} python {version}\n"


if __name__ == "__main__":
    try:
        print(ensure())
    except BootstrapError as error:
        sys.exit(f"error: {error}")
