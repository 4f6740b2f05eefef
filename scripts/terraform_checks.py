"""terraform fmt, validate and test for every module and root, with or without the internet.

Run with the virtual environment's Python. Ends with `N passed, N failed`: one for each check, and one for each
`run` block of a module's tests. Modules are checked side by side, as many as there are processors, at most four.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

from launcher import terraform, terraform_binary  # noqa: E402
from launcher.errors import StackError  # noqa: E402
from launcher.processes import tail  # noqa: E402
from launcher.progress import Progress  # noqa: E402


class Checks:
    """Runs the checks on a copy of terraform/, so that nothing stays behind, and counts them."""

    def __init__(self, binary: Path, copy: Path) -> None:
        self.passed = 0
        self.failed = 0
        self._binary = binary
        self._copy = copy
        self._lock = threading.Lock()

    def format(self) -> None:
        """terraform fmt over the whole folder."""
        result = self._run(["fmt", "-check", "-recursive", "-diff", "-no-color"], self._copy, Path(tempfile.gettempdir()))
        self._count("fmt", result)

    def directory(self, root: Path, data: Path) -> None:
        """init, validate and, where there are tests, test."""
        name = str(root.relative_to(self._copy))
        data.mkdir()
        log = data / "init.log"
        try:
            with Progress(io.StringIO()).step(f"{name}: init") as step:
                terraform.initialise(self._binary, root, data, step, log)
            self._count(f"{name}: validate", self._run(["validate", "-no-color"], root, data))
            if any(root.glob("tests/*.tftest.hcl")):
                self._count_tests(name, self._run(["test", "-no-color"], root, data))
        except (StackError, subprocess.TimeoutExpired) as error:
            self._report(0, 1, tail(log, 30), f"FAIL  {name}: {error}")

    def _run(self, arguments: list[str], root: Path, data: Path) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(self._binary), *arguments],
            cwd=root,
            env=terraform.environment(data),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )

    def _count(self, name: str, result: subprocess.CompletedProcess) -> None:
        if result.returncode == 0:
            self._report(1, 0, "", f"ok    {name}")
        else:
            self._report(0, 1, result.stdout, f"FAIL  {name}")

    def _count_tests(self, name: str, result: subprocess.CompletedProcess) -> None:
        summary = re.search(r"(\d+) passed, (\d+) failed", result.stdout)
        if summary is None:
            self._count(f"{name}: test", result)
            return
        passed, failed = int(summary[1]), int(summary[2])
        if result.returncode != 0:
            failed = max(failed, 1)
        line = f"{'FAIL ' if failed else 'ok   '} {name}: {passed} tests passed, {failed} failed"
        self._report(passed, failed, result.stdout if failed else "", line)

    def _report(self, passed: int, failed: int, output: str, line: str) -> None:
        """Prints a text at once, since modules are checked side by side."""
        with self._lock:
            print(output, line, sep="\n" if output else "", flush=True)
            self.passed += passed
            self.failed += failed


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = terraform.working_copy(Path(folder, "source"))
        checks = Checks(terraform_binary.find_or_fetch(), copy)
        checks.format()
        roots = sorted({file.parent for pattern in ("*/*.tf", "modules/**/*.tf") for file in copy.glob(pattern)})
        data = [Path(folder, f"data-{number}") for number in range(len(roots))]
        # The first one finds or fetches the provider; the others take it from there, since its cache is not made for
        # several who write.
        checks.directory(roots[0], data[0])
        if checks.failed == 0:
            os.environ[terraform.MIRROR_VARIABLE] = str(data[0] / "providers")
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            list(pool.map(checks.directory, roots[1:], data[1:]))
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as problem:
        print(f"FAIL  {problem}\n0 passed, 1 failed")
        sys.exit(1)
