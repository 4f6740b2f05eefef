"""buf over the gRPC contract: lint, and whether it breaks the contract of the last release (crates/proto/released).

Runs offline once its environment is made. Ends with `N passed, N failed`: one check each.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "localstack"))

import bootstrap  # noqa: E402

REQUIREMENTS = Path(__file__).resolve().parent / "buf" / "requirements.txt"
RELEASED = "crates/proto/released"
CHECKS = {
    "buf lint": ["lint", "proto"],
    "buf breaking": ["breaking", "proto", "--against", RELEASED],
}
TIMEOUT_SECONDS = 120


def main() -> int:
    buf = bootstrap.ensure(REQUIREMENTS, bootstrap.LOCAL / "buf").with_name("buf")
    failed = 0
    for name, arguments in CHECKS.items():
        status = subprocess.run([buf, *arguments], cwd=REPOSITORY, timeout=TIMEOUT_SECONDS).returncode
        print(f"{'ok  ' if status == 0 else 'FAIL'}  {name}")
        failed += status != 0
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (bootstrap.BootstrapError, subprocess.TimeoutExpired) as problem:
        print(f"FAIL  {problem}\n0 passed, 1 failed")
        sys.exit(1)
