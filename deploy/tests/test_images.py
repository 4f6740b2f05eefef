"""What scripts/images.py requires of a machine."""

import importlib.util
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from launcher.layout import REPOSITORY

_SPEC = importlib.util.spec_from_file_location("images", REPOSITORY / "scripts" / "images.py")
images = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(images)


class WhyNotTest(unittest.TestCase):
    def why_not(self, docker: str | None) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            if docker:
                program = Path(folder, "docker")
                program.write_text(f"#!/bin/sh\n{docker}\n")
                program.chmod(0o755)
            with mock.patch.dict(os.environ, {"PATH": folder, "DOCKER_HOST": "tcp://127.0.0.1:1"}), mock.patch("sys.platform", "darwin"):
                return images.why_not()

    def test_a_mac_builds_them(self) -> None:
        self.assertIsNone(self.why_not("exit 0"))

    def test_what_is_missing_is_named(self) -> None:
        self.assertIn("not installed", self.why_not(None))
        self.assertIn("does not answer (Cannot connect)", self.why_not("echo Cannot connect >&2; exit 1"))
        self.assertIn("no BuildKit", self.why_not("[ $1 = info ]"))


if __name__ == "__main__":
    unittest.main()
