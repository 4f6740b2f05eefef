"""`iam_proof.py` knows a path for each action of the services' policies. The paths themselves need a running stack."""

from __future__ import annotations

import re
import unittest
from typing import Iterator

from iam_proof import INSIDE, Proof
from launcher.layout import TERRAFORM

POLICIES = {
    "config-service": (("services/roles.tf", "config_service"), ("services/blobs.tf", r"\w+"), ("services/secrets.tf", r"\w+")),
    "invalidator": (("refresh/iam.tf", "invalidator"), ("refresh/blobs.tf", r"\w+"), ("refresh/secrets.tf", r"\w+")),
}
"""The documents of each program, by file and name."""
STATEMENT = re.compile(r'sid\s*=\s*"(\w+)"(.*?)actions\s*=\s*\[(.*?)\]', re.DOTALL)


def actions(file: str, document: str) -> Iterator[tuple[str, str]]:
    """The statements of these documents that allow, each with each of its actions."""
    text = (TERRAFORM / "modules" / file).read_text()
    for found in re.findall(rf'^data "aws_iam_policy_document" "{document}" {{\n(.*?)^}}', text, re.DOTALL | re.MULTILINE):
        for sid, effect, listed in STATEMENT.findall(found):
            if "Deny" not in effect:
                yield from ((sid, action) for action in re.findall(r'"([^"]+)"', listed))


class Paths(unittest.TestCase):
    def test_each_action_has_one_and_there_is_no_other(self) -> None:
        proof = Proof.__new__(Proof)
        for program, documents in POLICIES.items():
            wanted = {
                (program, sid, action) for document in documents for sid, action in actions(*document) if (program, sid) not in INSIDE
            }
            self.assertEqual({path for path in proof._paths() if path[0] == program}, wanted)


if __name__ == "__main__":
    unittest.main()
