"""An emulator that the extensions do not fit is refused before it serves anything."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
import unittest

import aws_limits
import faults
import hooks
import http_proxy
import iam_enforcement
import object_events
import object_ranges
import parameter_events
import partiql_transactions
import secret_events
import secret_names
import whole_answers
from launcher.layout import LOCALSTACK


class UnsupportedEmulators(unittest.TestCase):
    """Wrong versions and changed functions."""

    def test_the_installed_one_fits(self) -> None:
        from hypercorn.protocol.h11 import H11Protocol
        from hypercorn.protocol.http_stream import HTTPStream
        from ministack import app
        from ministack.core import iam_actions, iam_evaluator, lambda_runtime
        from ministack.services import (
            _dynamodb_keywords, apigateway, dynamodb, ec2, eventbridge, imds, lambda_svc, s3, secretsmanager, ssm,
        )

        hooks.require_version(hooks.installed_version())
        parameter_events.verify(ssm, eventbridge)
        object_events.verify(s3, eventbridge)
        object_ranges.verify(s3)
        partiql_transactions.verify(dynamodb, _dynamodb_keywords)
        secret_events.verify(secretsmanager, eventbridge)
        secret_names.verify(secretsmanager)
        http_proxy.verify(apigateway)
        whole_answers.verify(H11Protocol)
        iam_enforcement.verify(iam_actions, iam_evaluator, lambda_runtime, ec2, imds, s3, secretsmanager, dynamodb)
        aws_limits.verify(app)
        faults.verify(app, lambda_svc, s3, ssm, HTTPStream)

    def test_another_version(self) -> None:
        with self.assertRaisesRegex(hooks.UnsupportedEmulator, "MiniStack 9.9.9 is installed"):
            hooks.require_version("9.9.9")

    def test_a_missing_function(self) -> None:
        from ministack.services import eventbridge, ssm

        functions = dict(inspect.getmembers(ssm, inspect.isfunction))
        del functions["_label_parameter_version"]
        with self.assertRaisesRegex(hooks.UnsupportedEmulator, "_label_parameter_version"):
            parameter_events.verify(types.SimpleNamespace(__name__="ssm", **functions), eventbridge)

    def test_a_function_with_other_parameters(self) -> None:
        from ministack.services import ssm

        changed = types.SimpleNamespace(__name__="eventbridge", _put_events=lambda data: None)
        with self.assertRaisesRegex(hooks.UnsupportedEmulator, "eventbridge._put_events"):
            parameter_events.verify(ssm, changed)

    def test_the_emulator_does_not_start(self) -> None:
        program = "import hooks, emulator, sys; hooks.PINNED_VERSION = '0.0.0'; sys.exit(emulator.main())"
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=LOCALSTACK, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(result.returncode, 1)
        self.assertIn("the emulator cannot start: MiniStack", result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
