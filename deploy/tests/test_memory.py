"""What is remembered of a deployment, and what is not."""

import stat
import tempfile
import unittest
from pathlib import Path

from launcher.errors import StackError

import memory

SENSITIVE = """\
variable "region" {
  type = string
}

variable "token" {
  type      = string
  sensitive = true
}

variable "last" {
  type = string
}
"""


class MemoryTest(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def test_comes_back_for_the_owner_alone(self) -> None:
        memory.remember(self.folder, memory.Memory("123456789012", {"api_type": "http", "image_tag": "abc"}))
        self.assertEqual(memory.recall(self.folder), memory.Memory("123456789012", {"api_type": "http"}))
        self.assertEqual(stat.S_IMODE((self.folder / memory.FILE).stat().st_mode), 0o600)

    def test_nothing_is_remembered_at_first(self) -> None:
        self.assertIsNone(memory.recall(self.folder))

    def test_a_broken_file_is_named(self) -> None:
        (self.folder / memory.FILE).write_text("{")
        with self.assertRaisesRegex(StackError, memory.FILE):
            memory.recall(self.folder)

    def test_given_variables_come_first_and_empty_ones_forget(self) -> None:
        merged = memory.merge({"api_type": "http", "region": "eu-west-1"}, ["region=", "api_type=rest", "tasks={a = 1}"])
        self.assertEqual(merged, {"api_type": "rest", "tasks": "{a = 1}"})

    def test_what_is_no_variable_is_refused(self) -> None:
        with self.assertRaisesRegex(StackError, "NAME=VALUE"):
            memory.merge({}, ["api_type"])

    def test_one_variable_stays_one(self) -> None:
        for text, variables in {
            "nat=none  region=eu-west-1\n": ["nat=none", "region=eu-west-1"],
            'alert_emails=["a@example.com", "b@example.com"] nat=': ['alert_emails=["a@example.com", "b@example.com"]', "nat="],
            """x=it's y=1""": ["x=it's", "y=1"],
            r'tags={a = "x ] \" y=2", b = "z"}': [r'tags={a = "x ] \" y=2", b = "z"}'],
            "": [],
        }.items():
            with self.subTest(text):
                self.assertEqual(memory.split(text), variables)

    def test_what_cannot_be_split_is_refused(self) -> None:
        for text, message in {
            "title=two words": "'words' is not NAME=VALUE.*--var",
            'x="open': "quote.*not closed",
            'emails=["a", y=1': "ends before its ]",
            "x=1] y=2": "closes none",
            "x={a=1)}": "closes none",
            "=1": "not NAME=VALUE",
        }.items():
            with self.subTest(text), self.assertRaisesRegex(StackError, message):
                memory.split(text)

    def test_sensitive_variables_are_seen(self) -> None:
        self.assertEqual(memory.sensitive(SENSITIVE), {"token"})

    def test_the_version_before_is_the_one_that_ran(self) -> None:
        known = memory.Memory("123456789012", {}).with_version("a").with_version("b")
        memory.remember(self.folder, known)
        self.assertEqual(memory.recall(self.folder).ran, ("a", "b"))
        self.assertEqual(known.before("failed"), "b")
        self.assertEqual(known.before("b"), "a")
        self.assertEqual(known.with_version("a").ran, ("b", "a"))
        self.assertIsNone(memory.Memory("123456789012", {}).before("a"))


if __name__ == "__main__":
    unittest.main()
