"""Contract of the emulator extension: a real emulator, a real rule, and what its target receives.

Run with the virtual environment's Python, in localstack/: python -m unittest discover -s tests -t .
"""

from __future__ import annotations

import json
import time
import unittest

from botocore.exceptions import ClientError

import parameter_events
from launcher import processes
from launcher.settings import REGION
from tests.running_emulator import RunningEmulator

QUIET_SECONDS = 0.7
"""How long a queue must stay empty to show that nothing was sent."""


class PublishedEvents(unittest.TestCase):
    """What a rule for `aws.ssm` sees of each operation."""

    @classmethod
    def setUpClass(cls) -> None:
        emulator = RunningEmulator()
        cls.addClassCleanup(emulator.stop)
        cls.ssm, cls.sqs, cls.events = (emulator.client(service) for service in ("ssm", "sqs", "events"))
        cls.queue = cls.sqs.create_queue(QueueName="events")["QueueUrl"]
        arn = cls.sqs.get_queue_attributes(QueueUrl=cls.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        cls.events.put_rule(
            Name="parameters",
            EventPattern=json.dumps({"source": ["aws.ssm"], "detail-type": ["Parameter Store Change"]}),
        )
        cls.events.put_targets(Rule="parameters", Targets=[{"Id": "queue", "Arn": arn}])

    def setUp(self) -> None:
        self.name = f"/contract/{self.id().rpartition('.')[2]}"

    def test_create_has_the_documented_shape(self) -> None:
        self.ssm.put_parameter(Name=self.name, Value="secret-value", Type="String", Description="A rate")
        event = self._receive()
        self.assertEqual(event["source"], "aws.ssm")
        self.assertEqual(event["detail-type"], "Parameter Store Change")
        self.assertEqual(event["region"], REGION)
        self.assertEqual(event["resources"], [f"arn:aws:ssm:{REGION}:{event['account']}:parameter{self.name}"])
        self.assertEqual(
            event["detail"],
            {"operation": "Create", "name": self.name, "type": "String", "description": "A rate"},
        )
        for field in ("version", "id", "time"):
            self.assertIn(field, event)
        self.assertNotIn("secret-value", json.dumps(event))

    def test_a_description_that_is_not_there_is_left_out(self) -> None:
        self.ssm.put_parameter(Name=self.name, Value="1", Type="String")
        self.assertEqual(self._receive()["detail"], {"operation": "Create", "name": self.name, "type": "String"})

    def test_update_delete_and_label(self) -> None:
        self.ssm.put_parameter(Name=self.name, Value="1", Type="SecureString")
        self.ssm.put_parameter(Name=self.name, Value="2", Overwrite=True)
        self.ssm.label_parameter_version(Name=self.name, ParameterVersion=2, Labels=["current"])
        self.ssm.delete_parameter(Name=self.name)
        details = [self._receive()["detail"] for _ in range(4)]
        self.assertEqual(
            [detail["operation"] for detail in details], ["Create", "Update", "LabelParameterVersion", "Delete"]
        )
        self.assertEqual({(detail["name"], detail["type"]) for detail in details}, {(self.name, "SecureString")})

    def test_delete_many_announces_each_that_was_there(self) -> None:
        for number in (1, 2):
            self.ssm.put_parameter(Name=f"{self.name}/{number}", Value="1", Type="String")
            self._receive()
        self.ssm.delete_parameters(Names=[f"{self.name}/1", f"{self.name}/missing", f"{self.name}/2"])
        details = [self._receive()["detail"] for _ in range(2)]
        self.assertEqual([detail["operation"] for detail in details], ["Delete", "Delete"])
        self.assertEqual([detail["name"] for detail in details], [f"{self.name}/1", f"{self.name}/2"])
        self._assert_silence()

    def test_what_failed_is_silent(self) -> None:
        self.ssm.put_parameter(Name=self.name, Value="1", Type="String")
        self._receive()
        for call, arguments in (
            (self.ssm.put_parameter, {"Name": self.name, "Value": "2", "Type": "String"}),
            (self.ssm.put_parameter, {"Name": f"{self.name}/untyped", "Value": "2"}),
            (self.ssm.put_parameter, {"Name": "/aws/reserved", "Value": "2", "Type": "String"}),
            (self.ssm.delete_parameter, {"Name": f"{self.name}/missing"}),
            (self.ssm.label_parameter_version, {"Name": f"{self.name}/missing", "Labels": ["x"]}),
        ):
            with self.assertRaises(ClientError):
                call(**arguments)
        self.ssm.get_parameter(Name=self.name)
        self._assert_silence()

    def test_the_event_comes_after_the_change(self) -> None:
        for value in range(20):
            self.ssm.put_parameter(Name=self.name, Value=str(value), Type="String", Overwrite=True)
            self._receive()
            self.assertEqual(self.ssm.get_parameter(Name=self.name)["Parameter"]["Value"], str(value))

    def _receive(self) -> dict:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for message in self.sqs.receive_message(QueueUrl=self.queue, WaitTimeSeconds=1).get("Messages", []):
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                return json.loads(message["Body"])
        self.fail("no event arrived within 10 s")

    def _assert_silence(self) -> None:
        time.sleep(QUIET_SECONDS)
        self.assertEqual(self.sqs.receive_message(QueueUrl=self.queue).get("Messages", []), [])


class DeliveryPolicies(unittest.TestCase):
    """The hook for fault suites: a policy decides how often and when an event is delivered."""

    def _deliver(self, policy: parameter_events.DeliveryPolicy, names: list[str], expected: int) -> list[str]:
        delivered: list[str] = []

        def put_events(data: dict, allow_aws_source: bool = False) -> None:
            self.assertTrue(allow_aws_source)
            delivered.extend(json.loads(entry["Detail"])["name"] for entry in data["Entries"])

        publisher = parameter_events.EventPublisher(put_events, policy)
        for name in names:
            publisher.publish(parameter_events.ParameterEvent("Update", name, "String", f"arn:{name}"))
        processes.wait_until(lambda: len(delivered) >= expected, 2)
        time.sleep(0.1)
        return delivered

    def test_the_default_delivers_once_and_in_order(self) -> None:
        names = [str(number) for number in range(100)]
        self.assertEqual(self._deliver(parameter_events.deliver_once, names, 100), names)

    def test_drop_duplicate_and_reorder(self) -> None:
        plan = {"dropped": (), "twice": (0.0, 0.0), "late": (0.2,), "early": (0.0,)}
        delivered = self._deliver(lambda event: plan[event.name], list(plan), 4)
        self.assertEqual(delivered, ["twice", "twice", "early", "late"])


if __name__ == "__main__":
    unittest.main()
