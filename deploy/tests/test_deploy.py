"""What the tool wants of the Python that runs it."""

import os
import ssl
import subprocess
import sys
import unittest
from unittest import mock

from launcher.layout import REPOSITORY

import deploy


class PythonTest(unittest.TestCase):
    def test_one_that_is_too_old_is_told_so_before_anything_is_imported(self) -> None:
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


if __name__ == "__main__":
    unittest.main()
