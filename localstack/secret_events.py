"""The emulator extension: CreateSecret, DeleteSecret and RestoreSecret become the events of an account whose trail logs them.

Secrets Manager itself announces only that a label moved (`Secret Label Updated`; MiniStack sends it). Of these three operations
EventBridge learns from CloudTrail, with detail type `AWS API Call via CloudTrail`, where a trail logs management events
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/monitoring-eventbridge.html). MiniStack has no such events. Here they come at
once; on AWS some seconds to minutes later, and without a trail never: `TAGGED_CONFIG_CLOUDTRAIL_EVENTS=0` in the emulator's environment leaves
them out. An event never has a value: CloudTrail logs none.

It hooks private functions of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import functools
import json
import os
import time
import uuid
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import hooks
from parameter_events import EventPublisher, Handler

VARIABLE = "TAGGED_CONFIG_CLOUDTRAIL_EVENTS"
"""The variable that switches these events off, with the value 0."""
OPERATIONS = {"CreateSecret": "_create_secret", "DeleteSecret": "_delete_secret", "RestoreSecret": "_restore_secret"}
_LOGGED = (
    "ClientRequestToken", "Description", "ForceDeleteWithoutRecovery", "KmsKeyId", "Name", "RecoveryWindowInDays", "SecretId",
)
"""The members of a request that the event repeats. A value is not among them."""


@dataclass(frozen=True)
class SecretCall:
    """One successful call, before it is published."""

    operation: str
    request: dict[str, Any]
    name: str
    arn: str
    account: str
    region: str

    def entry(self) -> dict[str, Any]:
        """The event as an entry of EventBridge's PutEvents."""
        detail = {
            "eventVersion": "1.11",
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "eventSource": "secretsmanager.amazonaws.com",
            "eventName": self.operation,
            "awsRegion": self.region,
            "requestParameters": {
                name[:1].lower() + name[1:]: self.request[name] for name in _LOGGED if self.request.get(name) is not None
            },
            "responseElements": {"arn": self.arn, "name": self.name},
            "eventID": str(uuid.uuid4()),
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": self.account,
            "eventCategory": "Management",
        }
        return {
            "Source": "aws.secretsmanager",
            "DetailType": "AWS API Call via CloudTrail",
            "Resources": [],
            "Detail": json.dumps(detail),
        }


def is_enabled() -> bool:
    """Whether these events are sent."""
    return os.environ.get(VARIABLE, "1") != "0"


def verify(secretsmanager: ModuleType, eventbridge: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked or called is as this module knows it."""
    for name in OPERATIONS.values():
        hooks.require_function(secretsmanager, name, ["data"])
    hooks.require_function(eventbridge, "_put_events", ["data", "allow_aws_source"])


def install() -> None:
    """Hooks the installed MiniStack, unless the events are switched off."""
    if not is_enabled():
        return
    from ministack.services import eventbridge, secretsmanager

    hooks.require_version(hooks.installed_version())
    verify(secretsmanager, eventbridge)
    publisher = EventPublisher(eventbridge._put_events)
    for operation, name in OPERATIONS.items():
        setattr(secretsmanager, name, _publishing(getattr(secretsmanager, name), operation, publisher))


def _publishing(original: Handler, operation: str, publisher: EventPublisher) -> Handler:
    from ministack.core.responses import get_account_id, get_region

    @functools.wraps(original)
    def handle(data: dict) -> tuple:
        answer = original(data)
        if answer[0] == 200:
            made = json.loads(answer[2])
            publisher.publish(SecretCall(operation, data, made["Name"], made["ARN"], get_account_id(), get_region()))
        return answer

    return handle
