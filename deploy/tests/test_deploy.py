"""What the tool requires of the Python that runs it, and how `make` passes variables to it."""

import contextlib
import io
import os
import shlex
import ssl
import subprocess
import sys
import unittest
from unittest import mock

from launcher.layout import REPOSITORY

import deploy


class PythonTest(unittest.TestCase):
    def test_one_that_is_too_old_is_refused_before_anything_is_imported(self) -> None:
        program = (REPOSITORY / "deploy" / "deploy.py").read_text()
        script = f"import sys; sys.version_info = (3, 9, 6); exec(compile({program!r}, 'deploy.py', 'exec'))"
        answer = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
        self.assertEqual(answer.returncode, 1)
        self.assertRegex(answer.stderr, "^error: this is Python .*3.10 or newer")

    def trusted(self, cafile: str | None, capath: str | None) -> str | None:
        paths = mock.Mock(cafile=cafile, capath=capath)
        with mock.patch.dict(os.environ, clear=True), mock.patch.object(ssl, "get_default_verify_paths", return_value=paths):
            deploy._trust_authorities()
            return os.environ.get("SSL_CERT_FILE")

    def test_without_certificates_those_of_the_sdk_are_trusted(self) -> None:
        self.assertTrue(self.trusted(None, None).endswith("cacert.pem"))
        self.assertIsNone(self.trusted("/etc/ssl/cert.pem", None))


class VarsTest(unittest.TestCase):
    def words(self, variables: str) -> list[str]:
        """What the shell makes of the command line that `make plan` would run."""
        dry_run = ["make", "--no-print-directory", "-n", "plan", f"VARS={variables}"]
        line = subprocess.run(dry_run, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        return shlex.split(line)

    def test_vars_with_spaces_and_quotes_arrive_whole(self) -> None:
        for variables, expected in {
            'alert_emails=["a@example.com", "b@example.com"] nat=none': ['alert_emails=["a@example.com", "b@example.com"]', "nat=none"],
            "x=it's": ["x=it's"],
            "x='; false #": None,
            "x=$(false)": None,
        }.items():
            with self.subTest(variables):
                words = self.words(variables)
                self.assertEqual(words[-2:], ["--vars", variables])
                if expected:
                    self.assertEqual(deploy._parser().parse_args(words[2:]).var, expected)

    def test_what_cannot_be_split_ends_the_command(self) -> None:
        said = io.StringIO()
        with self.assertRaises(SystemExit), contextlib.redirect_stderr(said):
            deploy._parser().parse_args(["deploy", "--vars", "title=two words"])
        self.assertIn("'words' is not NAME=VALUE", said.getvalue())


if __name__ == "__main__":
    unittest.main()
