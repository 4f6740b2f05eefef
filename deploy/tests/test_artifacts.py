"""How images and functions are built."""

import os
import unittest
from unittest import mock

import artifacts


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


if __name__ == "__main__":
    unittest.main()
