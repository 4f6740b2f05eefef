"""How images and functions are built, and the modes of the files in them."""

import os
import re
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from launcher import build
from launcher.layout import REPOSITORY

import artifacts

FOLDERS = ("lambdas", "loadtest", "localstack", "services")
"""Where the Dockerfiles of the repository are."""


class Commands(unittest.TestCase):
    def test_a_mirror_of_the_bases_is_used(self) -> None:
        mirrors = {"TAGGED_CONFIG_BUILDER_IMAGE": "mirror/rust@sha256:1", "TAGGED_CONFIG_RUNTIME_IMAGE": "mirror/cc@sha256:2"}
        with mock.patch.dict(os.environ, mirrors):
            image = artifacts.image_command("config-service", "registry/a:tag", "tag", "linux/arm64")
            functions = artifacts.functions_command("folder", "linux/arm64")
        self.assertIn("BUILDER=mirror/rust@sha256:1", image)
        self.assertIn("RUNTIME=mirror/cc@sha256:2", image)
        self.assertIn("BUILDER=mirror/rust@sha256:1", functions)
        self.assertNotIn("RUNTIME=mirror/cc@sha256:2", functions)

    def test_the_version_is_a_label(self) -> None:
        command = artifacts.image_command("order-service", "registry/a:tag", "tag", "linux/arm64")
        self.assertEqual(command[command.index("--label") + 1], "org.opencontainers.image.revision=tag")


class Modes(unittest.TestCase):
    """A checkout made with umask 077 gives the same images and packages: programs in them run as another user."""

    def test_a_packed_program_can_be_run_by_everybody(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program, archive = Path(folder, "program"), Path(folder, "program.zip")
            program.write_bytes(b"program")
            program.chmod(0o700)
            build.pack(program, archive)
            with zipfile.ZipFile(archive) as packed:
                self.assertEqual(packed.getinfo("bootstrap").external_attr >> 16, 0o100755)

    def test_images_set_the_modes_of_what_they_copy_from_the_checkout(self) -> None:
        files = [file for folder in FOLDERS for file in (REPOSITORY / folder).glob("**/Dockerfile")]
        self.assertGreaterEqual(len(files), 5)
        for file in files:
            with self.subTest(str(file.relative_to(REPOSITORY))):
                self.assertEqual(self.left_as_copied(file.read_text()), [])

    def test_a_copy_without_a_mode_is_found(self) -> None:
        copy = "FROM a AS b\nCOPY . .\nFROM c\nCOPY --from=b /out /app\nCOPY x/*.py y /x/\n"
        self.assertEqual(self.left_as_copied(copy), ["/x/"])
        self.assertEqual(self.left_as_copied(copy + "RUN chmod -R u=rwX,go=rX /x\n"), [])
        self.assertEqual(self.left_as_copied(copy + "RUN chmod -R u=rwX,go=rX /y\n"), ["/x/"])
        self.assertEqual(self.left_as_copied(copy.replace("COPY x", "COPY --chmod=755 x")), [])

    @staticmethod
    def left_as_copied(dockerfile: str) -> list[str]:
        """Where the last stage has files of the build context with the modes that they have there."""
        stage = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[-1]
        left = []
        for line in stage.replace("\\\n", " ").splitlines():
            words = line.split()
            if words[:1] in (["COPY"], ["ADD"]) and not any(word.startswith(("--from=", "--chmod=")) for word in words):
                left.append(words[-1])
            if words[:4] == ["RUN", "chmod", "-R", "u=rwX,go=rX"]:
                left = [path for path in left if not f"{path.rstrip('/')}/".startswith(f"{words[4]}/")]
        return left


if __name__ == "__main__":
    unittest.main()
