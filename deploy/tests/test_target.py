"""How Terraform is called and ended. A fake Terraform creates what an interruption would lose."""

import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from launcher.errors import StackError
from launcher.progress import Progress

import target

TERRAFORM = """#!{python}
import signal, sys, time
open("calls", "a").write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "console":
    if open("behaviour").read() == "refused":
        print("\\x1b[31mError: \\x1b[0mInvalid value for variable", file=sys.stderr)
        print("Warning: some expressions may produce unexpected results.")
    print('"{{\\\\"nat\\\\":\\\\"none\\\\"}}"')
    sys.exit()
if sys.argv[1] == "apply" and open("behaviour").read() == "interrupted":
    signals = []
    signal.signal(signal.SIGINT, lambda *_: signals.append(1))
    open("begun", "w").close()
    while not signals:
        time.sleep(0.01)
    time.sleep(0.3)
    open("state", "w").write("complete")
    sys.exit(1)
if sys.argv[1] == open("behaviour").read():
    open("errored.tfstate", "w").write("what was made")
    sys.exit("Error: saving state: api error ExpiredToken: The provided token has expired.")
"""


class TargetTest(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        binary = self.root / "terraform"
        binary.write_text(TERRAFORM.format(python=sys.executable))
        binary.chmod(0o755)
        for patch in (
            mock.patch.object(target, "folder_of", lambda _: self.root / "folder"),
            mock.patch.object(target.terraform_binary, "find_or_fetch", lambda: binary),
            mock.patch.object(target.terraform, "initialise"),
            mock.patch.object(target.Stack, "root", self.root),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        self.behave("well")

    def behave(self, how: str) -> None:
        (self.root / "behaviour").write_text(how)

    def stack(self) -> target.Stack:
        return target.Stack("dev", {"region": "eu-west-1"}, Progress(io.StringIO()))

    def calls(self) -> list[str]:
        return [line.split()[0] for line in (self.root / "calls").read_text().splitlines()]

    def test_an_interrupted_apply_writes_its_state_first(self) -> None:
        self.behave("interrupted")

        def interrupt() -> None:
            while not (self.root / "begun").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with self.assertRaises(KeyboardInterrupt), mock.patch("sys.stderr", io.StringIO()):
            self.stack().apply("apply", [])
        self.assertEqual((self.root / "state").read_text(), "complete")

    def test_what_is_accepted_is_remembered_before_anything_is_made(self) -> None:
        made_before = []
        self.stack().apply("repositories", ["-target=a"], accepted=lambda: made_before.append(self.calls()))
        self.assertEqual((made_before, self.calls()), ([["plan"]], ["plan", "apply"]))

    def test_what_is_refused_is_not_remembered(self) -> None:
        self.behave("plan")
        with self.assertRaisesRegex(StackError, "terraform plan failed: .*sign in again"):
            self.stack().apply("repositories", [], accepted=self.fail)

    def test_a_state_that_could_not_be_stored_is_stored_by_the_next_run(self) -> None:
        self.behave("apply")
        with self.assertRaisesRegex(StackError, "ExpiredToken"):
            self.stack().apply("apply", [])
        self.assertFalse((self.root / "errored.tfstate").exists())
        self.behave("well")
        self.stack().initialise()
        self.assertEqual((self.root / "dev.tfstate").read_text(), "what was made")

    def test_another_deployments_state_is_not_taken(self) -> None:
        for name, lineage in ("folder/errored.tfstate", "a"), ("dev.tfstate", "b"):
            (self.root / name).parent.mkdir(exist_ok=True)
            (self.root / name).write_text(json.dumps({"lineage": lineage}))
        with self.assertRaisesRegex(StackError, "another deployment"):
            self.stack().initialise()
        self.assertIn('"b"', (self.root / "dev.tfstate").read_text())
        (self.root / "dev.tfstate").write_text(json.dumps({"lineage": "a", "serial": 1}))
        self.stack().initialise()
        self.assertNotIn("serial", (self.root / "dev.tfstate").read_text())

    def test_a_plan_is_not_kept(self) -> None:
        stack = self.stack()

        def refuse() -> None:
            (self.root / "folder" / "planned.tfplan").write_text("values")
            raise StackError("refused")

        with self.assertRaisesRegex(StackError, "refused"):
            stack.apply("apply", [], accepted=refuse)
        self.assertFalse((self.root / "folder" / "planned.tfplan").exists())

    def test_variables_are_evaluated_once(self) -> None:
        stack = self.stack()
        self.assertEqual([stack.values("nat"), stack.values("nat")], [{"nat": "none"}] * 2)
        self.assertEqual(self.calls(), ["console"])

    def test_a_refused_variable_is_still_evaluated_unless_all_must_be_valid(self) -> None:
        self.behave("refused")
        self.assertEqual(self.stack().values("nat"), {"nat": "none"})
        with self.assertRaisesRegex(StackError, "refused: Invalid value for variable"):
            self.stack().values("nat", valid=True)


if __name__ == "__main__":
    unittest.main()
