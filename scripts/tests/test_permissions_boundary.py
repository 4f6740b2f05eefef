"""Every IAM role in terraform/ has the permissions boundary, directly or by a variable of its module."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"
BOUNDARY = re.compile(r"^  permissions_boundary(_arn)?\s*= var\.permissions_boundary_arn$", re.MULTILINE)


def blocks(kind: str, folder: str, pattern: str) -> dict[str, str]:
    """The blocks of a kind by file and name: what `terraform fmt` leaves ends with a } in the first column."""
    found = {}
    for file in sorted((TERRAFORM / folder).glob(pattern)):
        for name, body in re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', file.read_text(), re.MULTILINE | re.DOTALL):
            found[f"{file.relative_to(TERRAFORM)} {name}"] = body
    return found


class Boundary(unittest.TestCase):
    def test_every_role_takes_it(self) -> None:
        roles = blocks('resource "aws_iam_role"', ".", "**/*.tf")
        self.assertGreater(len(roles), 5)
        self.assertEqual([name for name, body in roles.items() if not BOUNDARY.search(body)], [])

    def test_the_root_hands_it_to_every_module_with_roles(self) -> None:
        calls = blocks("module", "aws", "*.tf")
        sources = {name: re.search(r'source\s*= "\.\./(.*?)"', body)[1] for name, body in calls.items()}
        bounded = {name: body for name, body in calls.items() if blocks('resource "aws_iam_role"', sources[name], "*.tf")}
        self.assertGreater(len(bounded), 3)
        self.assertEqual([name for name, body in bounded.items() if not BOUNDARY.search(body)], [])


if __name__ == "__main__":
    unittest.main()
