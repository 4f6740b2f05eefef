"""Makes virtual environments, with nothing but the standard library.

`python3 localstack/bootstrap.py` prints the path of the Python of the local stack's environment. It is made once, from
requirements.txt with hashes, and made again only when that file or the Python version changes. All stacks share it.
Tools whose requirements contradict these have an environment of their own, made the same way.
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


class BootstrapError(RuntimeError):
    """The virtual environment could not be made; the message says what to do."""


def is_current(requirements: Path = REQUIREMENTS, venv: Path = VENV) -> bool:
    """Whether the environment exists and was made from today's requirements."""
    marker = _marker(venv)
    return _python(venv).exists() and marker.exists() and marker.read_text() == _fingerprint(requirements)


def ensure(requirements: Path = REQUIREMENTS, venv: Path = VENV) -> Path:
    """Makes the environment if it is missing or out of date, and returns its Python."""
    LOCAL.mkdir(exist_ok=True)
    with open(venv.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(requirements, venv):
            _make(requirements, venv)
    return _python(venv)


def _make(requirements: Path, venv: Path) -> None:
    if venv.exists():
        shutil.rmtree(venv)
    log_file = venv.with_suffix(".log")
    with open(log_file, "w") as log:
        for command in (
            [sys.executable, "-m", "venv", str(venv)],
            # Compiled when it is first imported: most of it never is, and that is half of the time.
            [str(_python(venv)), "-m", "pip", "install", "--no-compile", "--require-hashes", "--disable-pip-version-check",
             "--requirement", str(requirements)],
        ):
            result = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            if result.returncode != 0:
                raise BootstrapError(
                    f"could not make the Python environment {venv}: see {log_file} "
                    "(Debian and Ubuntu: apt-get install python3-venv)"
                )
    _marker(venv).write_text(_fingerprint(requirements))


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _marker(venv: Path) -> Path:
    return venv / "made-from"


def _fingerprint(requirements: Path) -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{hashlib.sha256(requirements.read_bytes()).hexdigest()} python {version}\n"


if __name__ == "__main__":
    try:
        print(ensure())
    except BootstrapError as error:
        sys.exit(f"error: {error}")
