"""Calls the invalidator (the Lambda function that sends changes to every task) of one environment, and names its dead-letter queues."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Callable, Mapping

import boto3
from botocore.config import Config
from launcher import aws
from launcher.settings import Settings

QUEUES = ("rule", "function", "stream")
"""One queue for each way to fail: terraform/modules/refresh/queues.tf."""

# The function may take up to 300 s (terraform/modules/refresh). A second call does no harm (docs/adr/0003).
CALL_CONFIG = Config(read_timeout=310, tcp_keepalive=True, retries={"total_max_attempts": 2})
_EXCERPT = 300


class CallFailed(Exception):
    """The function failed, or its answer was invalid."""


@dataclasses.dataclass(frozen=True)
class Invalidator:
    """The names of the function, its queues and its table, and clients of their account."""

    env: str
    function: str
    queues: Mapping[str, str]
    table: str
    client: Callable[[str], Any]

    def call(self, event: Mapping) -> Any:
        """Calls the function with an event. Returns its answer, after it has handled the event."""
        answer = self.client("lambda").invoke(
            FunctionName=self.function, InvocationType="RequestResponse", Payload=json.dumps(event).encode()
        )
        text = answer["Payload"].read().decode(errors="replace")
        if answer.get("FunctionError"):
            raise CallFailed(f"the function failed ({answer['FunctionError']}): {_message(text)}")
        try:
            return json.loads(text or "null")
        except ValueError:
            raise CallFailed(f"the function answered no JSON: {excerpt(text)}") from None

    def has_journal(self) -> bool:
        """Whether tasks that a call does not reach find the change in the journal."""
        settings = self.client("lambda").get_function_configuration(FunctionName=self.function)
        return bool(settings.get("Environment", {}).get("Variables", {}).get("TAGGED_CONFIG_JOURNAL_TABLE"))


def deployed(env: str, prefix: str, outputs: Mapping) -> Invalidator:
    """The invalidator on AWS. Its queues are not among the outputs; their names have the environment's prefix."""
    region = outputs["region"]
    return Invalidator(
        env=env,
        function=outputs["log_group_names"]["invalidator"].removeprefix("/aws/lambda/"),
        queues=queue_names(prefix),
        table=outputs["table_name"],
        client=lambda service: boto3.client(service, region_name=region, config=CALL_CONFIG),
    )


def local(settings: Settings) -> Invalidator:
    """The invalidator of `make local`. Its clients reach nothing but the emulator."""
    function = settings.output("invalidator_function_name")
    return Invalidator(
        env="local",
        function=function,
        queues=queue_names(function.removesuffix("-invalidator")),
        table=settings.output("table_name"),
        client=lambda service: aws.client(settings, service),
    )


def queue_names(prefix: str) -> dict[str, str]:
    """The name of each dead-letter queue."""
    return {name: f"{prefix}-{name}-dead-letter" for name in QUEUES}


def excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}..."


def _message(text: str) -> str:
    try:
        return excerpt(json.loads(text)["errorMessage"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return excerpt(text)
