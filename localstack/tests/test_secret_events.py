"""What EventBridge is sent about secrets: a real emulator, a real rule, and what its target receives."""

from __future__ import annotations

import json
import unittest

from botocore.exceptions import ClientError

import secret_events
from launcher.settings import REGION
from tests.received import Received
from tests.running_emulator import RunningEmulator

ACCOUNT = "000000000000"
ROOT = "tagged-config/config"
PREFIXES = [{"prefix": f"{ROOT}/"}, {"prefix": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{ROOT}/"}]
LIFECYCLE = {
    # As in terraform/modules/refresh/secrets.tf.
    "source": ["aws.secretsmanager"],
    "detail-type": ["AWS API Call via CloudTrail"],
    "detail": {
        "eventSource": ["secretsmanager.amazonaws.com"],
        "eventName": ["CreateSecret", "DeleteSecret", "RestoreSecret"],
        "$or": [{"requestParameters": {"name": PREFIXES}}, {"requestParameters": {"secretId": PREFIXES}}],
    },
}
ROTATION = {
    "source": ["aws.secretsmanager"],
    "detail-type": ["Secret Label Updated"],
    "detail": {"name": [{"prefix": f"{ROOT}/"}], "labelUpdated": ["AWSCURRENT"]},
}


class Events(unittest.TestCase):
    """Calls by way of CloudTrail, and MiniStack's own event of a new value."""

    @classmethod
    def setUpClass(cls) -> None:
        emulator = RunningEmulator()
        cls.addClassCleanup(emulator.stop)
        cls.secrets = emulator.client("secretsmanager")
        cls.lifecycle, cls.rotation = Received(emulator, LIFECYCLE, "lifecycle"), Received(emulator, ROTATION, "rotation")

    def setUp(self) -> None:
        self.name = f"{ROOT}/tenants/A/{self.id().rpartition('.')[2]}"

    def create(self, **more: str) -> str:
        """Makes the secret and takes its event. The ARN."""
        arn = self.secrets.create_secret(Name=self.name, SecretString="hidden", **more)["ARN"]
        self.assertEqual(self.lifecycle.next(self)["detail"]["eventName"], "CreateSecret")
        return arn

    def test_a_creation_has_the_shape_of_cloudtrail(self) -> None:
        arn = self.secrets.create_secret(Name=self.name, SecretString="hidden", Description="A key")["ARN"]
        event = self.lifecycle.next(self)
        self.assertEqual((event["source"], event["detail-type"], event["region"], event["resources"]),
                         ("aws.secretsmanager", "AWS API Call via CloudTrail", REGION, []))
        detail = event["detail"]
        self.assertEqual((detail["eventSource"], detail["eventName"]), ("secretsmanager.amazonaws.com", "CreateSecret"))
        self.assertEqual((detail["requestParameters"]["name"], detail["requestParameters"]["description"]), (self.name, "A key"))
        self.assertEqual(detail["responseElements"], {"arn": arn, "name": self.name})
        self.assertEqual((detail["awsRegion"], detail["recipientAccountId"], detail["readOnly"]), (REGION, ACCOUNT, False))
        self.assertNotIn("hidden", json.dumps(event))

    def test_deletion_and_restoration_by_name_and_by_arn(self) -> None:
        arn = self.create()
        self.secrets.delete_secret(SecretId=self.name, RecoveryWindowInDays=7)
        deleted = self.lifecycle.next(self)["detail"]
        self.assertEqual(deleted["requestParameters"], {"recoveryWindowInDays": 7, "secretId": self.name})
        self.secrets.restore_secret(SecretId=arn)
        restored = self.lifecycle.next(self)["detail"]
        self.assertEqual((restored["eventName"], restored["requestParameters"]), ("RestoreSecret", {"secretId": arn}))
        self.secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        self.assertEqual(self.lifecycle.next(self)["detail"]["responseElements"], {"arn": arn, "name": self.name})

    def test_what_failed_and_what_is_read_is_silent(self) -> None:
        self.create()
        for call in (
            lambda: self.secrets.create_secret(Name=self.name, SecretString="2"),
            lambda: self.secrets.delete_secret(SecretId=f"{self.name}/missing"),
            lambda: self.secrets.restore_secret(SecretId=self.name),
        ):
            with self.assertRaises(ClientError):
                call()
        self.secrets.get_secret_value(SecretId=self.name)
        self.secrets.describe_secret(SecretId=self.name)
        self.lifecycle.nothing(self)

    def test_a_new_value_is_announced_by_its_label_alone(self) -> None:
        self.create()
        version = self.secrets.put_secret_value(SecretId=self.name, SecretString="hidden too")["VersionId"]
        self.assertEqual(self.rotation.next(self)["detail"],
                         {"name": self.name, "labelUpdated": "AWSCURRENT", "versionId": version})
        self.lifecycle.nothing(self)


class SwitchedOff(unittest.TestCase):
    """An account without a trail."""

    def test_no_call_is_announced(self) -> None:
        emulator = RunningEmulator(**{secret_events.VARIABLE: "0"})
        self.addCleanup(emulator.stop)
        secrets, lifecycle, rotation = emulator.client("secretsmanager"), Received(emulator, LIFECYCLE), Received(emulator, ROTATION, "rotation")
        secrets.create_secret(Name=f"{ROOT}/global/a", SecretString="1")
        secrets.put_secret_value(SecretId=f"{ROOT}/global/a", SecretString="2")
        rotation.next(self)
        lifecycle.nothing(self)


if __name__ == "__main__":
    unittest.main()
