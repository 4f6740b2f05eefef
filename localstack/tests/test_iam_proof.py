"""`iam_proof.py` knows a path for each action of the optional tags' policies. The paths themselves need a running stack."""

from __future__ import annotations

import re
import unittest

from iam_proof import Proof
from launcher.layout import TERRAFORM

POLICIES = {
    "config-service": ("services/blobs.tf", "services/secrets.tf"),
    "invalidator": ("refresh/blobs.tf", "refresh/secrets.tf"),
}
STATEMENT = re.compile(r'sid\s*=\s*"(\w+)".*?actions\s*=\s*\[(.*?)\]', re.DOTALL)


class Paths(unittest.TestCase):
    def test_each_action_has_one_and_there_is_no_other(self) -> None:
        proof = Proof.__new__(Proof)
        wanted = {
            (program, sid, action)
            for program, files in POLICIES.items()
            for file in files
            for sid, actions in STATEMENT.findall((TERRAFORM / "modules" / file).read_text())
            for action in re.findall(r'"([^"]+)"', actions)
        }
        self.assertEqual(proof._blob_paths().keys() | proof._secret_paths().keys(), wanted)


if __name__ == "__main__":
    unittest.main()
