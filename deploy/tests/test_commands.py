"""What the commands refuse, and what they go on without."""

import io
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from launcher.errors import StackError
from launcher.progress import Progress

import commands
import memory

REPOSITORY_OF_ONE = {
    "mode": "managed", "type": "aws_ecr_repository", "name": "this", "module": "module.images",
    "instances": [{"attributes": {"arn": "arn:aws:ecr:eu-west-1:111111111111:repository/a", "force_delete": False}}],
}


class OpenTest(unittest.TestCase):
    """How a command finds its environment: a state in eu-west-1, and a memory of it or none."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.said = io.StringIO()
        self.resources = [REPOSITORY_OF_ONE]
        self.session = None
        for name, fake in (
            ("_identity", lambda: ("111111111111", "arn:aws:iam::111111111111:user/a")), ("_session_region", lambda: self.session),
            ("folder_of", lambda _: self.folder), ("Stack", self.stack)
        ):
            patch = mock.patch.object(commands, name, fake)
            patch.start()
            self.addCleanup(patch.stop)

    def stack(self, name: str, variables: dict[str, str], _: Progress) -> SimpleNamespace:
        return SimpleNamespace(name=name, folder=self.folder, variables=variables, resources=lambda: self.resources,
                               region=variables.get("region", "us-east-1"))

    def open(self, *given: str, even_destroyed: bool = False) -> dict[str, str]:
        arguments = SimpleNamespace(env="dev", var=list(given))
        stack, _ = commands._open(arguments, Progress(self.said), even_destroyed=even_destroyed)
        return stack.variables

    def remember(self, account: str = "111111111111", destroyed: bool = False) -> None:
        memory.remember(self.folder, memory.Memory(account, {"region": "eu-west-1", "nat": "single"}, destroyed))

    def test_what_was_deployed_with_is_used_again(self) -> None:
        self.remember()
        self.assertEqual(self.open("nat=none"), {"region": "eu-west-1", "nat": "none"})
        self.assertIn("as deployed before: VARS='region=eu-west-1'", self.said.getvalue())

    def test_another_region_is_refused(self) -> None:
        with self.assertRaisesRegex(StackError, "deployed in eu-west-1.*AWS_REGION=eu-west-1"):
            self.open()

    def test_the_sessions_region_is_taken(self) -> None:
        self.resources = []
        self.session = "eu-central-1"
        self.assertEqual(self.open(), {"region": "eu-central-1"})

    def test_two_regions_that_differ_are_refused(self) -> None:
        self.session = "eu-central-1"
        with self.assertRaisesRegex(StackError, "given, or as deployed before.*says eu-central-1: set AWS_REGION=us-west-2"):
            self.open("region=us-west-2")
        self.remember()
        with self.assertRaisesRegex(StackError, "AWS_REGION=eu-west-1"):
            self.open()

    def test_another_account_is_refused(self) -> None:
        self.remember()
        with mock.patch.object(commands, "_identity", lambda: ("222222222222", "arn")), self.assertRaisesRegex(StackError, "AWS_PROFILE"):
            self.open()

    def test_another_checkout_is_warned_of_what_it_does_not_know(self) -> None:
        self.assertEqual(self.open("region=eu-west-1"), {"region": "eu-west-1"})
        self.assertIn("does not say which VARS", self.said.getvalue())

    def test_after_a_destroy_only_leftovers_use_the_memory(self) -> None:
        self.resources = []
        self.remember(destroyed=True)
        self.assertEqual(self.open(), {})
        self.assertEqual(self.open(even_destroyed=True), {"region": "eu-west-1", "nat": "single"})

    def test_leftovers_are_searched_in_the_account_they_were_in(self) -> None:
        self.resources = []
        self.remember(account="333333333333", destroyed=True)
        with self.assertRaisesRegex(StackError, "account 333333333333"):
            self.open(even_destroyed=True)


class LiftProtectionTest(unittest.TestCase):
    def test_goes_on_with_a_warning(self) -> None:
        said = io.StringIO()
        apply = mock.Mock(side_effect=StackError("terraform apply failed"))
        stack = SimpleNamespace(resources=lambda: [REPOSITORY_OF_ONE], apply=apply, log="terraform.log")
        commands._lift_protection(stack, ["-var=deletion_protection=false"], Progress(said))
        apply.assert_called_once_with(
            "lift protection", ["-target=module.images.aws_ecr_repository.this", "-var=deletion_protection=false"]
        )
        self.assertIn("warning: protection was not lifted", said.getvalue())

    def test_does_nothing_where_nothing_is_protected(self) -> None:
        commands._lift_protection(SimpleNamespace(resources=list), [], Progress(io.StringIO()))


if __name__ == "__main__":
    unittest.main()
