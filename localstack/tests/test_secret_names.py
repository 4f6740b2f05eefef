"""Secrets by name, ARN, and ARN without its suffix, over the emulator's HTTP."""

from __future__ import annotations

import unittest

from botocore.exceptions import ClientError

from tests.running_emulator import RunningEmulator


class SecretNames(unittest.TestCase):
    """Only the secret that is meant."""

    def test_a_name_that_another_one_begins_with(self) -> None:
        emulator = RunningEmulator()
        self.addCleanup(emulator.stop)
        secrets = emulator.client("secretsmanager")
        longer = secrets.create_secret(Name="root/pay-stripe", SecretString="longer")["ARN"]
        prefix = longer.removesuffix("pay-stripe" + longer[-7:])
        value = lambda secret_id: secrets.get_secret_value(SecretId=secret_id)["SecretString"]
        for nobody in ("pay", "p", ""):
            with self.assertRaises(ClientError) as refused:
                value(prefix + nobody)
            self.assertEqual(refused.exception.response["Error"]["Code"], "ResourceNotFoundException")
        shorter = secrets.create_secret(Name="root/pay", SecretString="shorter")["ARN"]
        for secret_id in ("root/pay", shorter, shorter[:-7]):
            self.assertEqual(value(secret_id), "shorter")
        for secret_id in ("root/pay-stripe", longer, longer[:-7]):
            self.assertEqual(value(secret_id), "longer")
