"""The events that a rule of a running emulator sends to a queue."""

from __future__ import annotations

import json
import time
import unittest

from tests.running_emulator import RunningEmulator

QUIET_SECONDS = 0.7
"""How long the queue must stay empty to show that nothing was sent."""


class Received:
    """A rule on the default bus, and the queue that is its target."""

    def __init__(self, emulator: RunningEmulator, pattern: dict, name: str = "received") -> None:
        self._sqs, events = (emulator.client(service) for service in ("sqs", "events"))
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])

    def next(self, test: unittest.TestCase) -> dict:
        """The next event. Fails the test if none comes."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for message in self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=1).get("Messages", []):
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                return json.loads(message["Body"])
        test.fail("no event arrived within 10 s")

    def nothing(self, test: unittest.TestCase) -> None:
        """Fails the test if an event comes."""
        time.sleep(QUIET_SECONDS)
        test.assertEqual(self._sqs.receive_message(QueueUrl=self._queue).get("Messages", []), [])
