"""Parses messages of the invalidator's dead-letter queues into events for the function. Nothing here calls AWS.

Shapes: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html,
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import re
from typing import Any, Iterator, Mapping, Sequence

# As the event source mapping cuts its batches. Lambda takes 6 MB; the two images of a record are some
# 0.8 MB at most.
MAX_RECORDS = 100
MAX_BYTES = 4_000_000

_OF_A_RECORD = (
    "ApproximateCreationDateTime", "Keys", "NewImage", "OldImage", "SequenceNumber", "SizeBytes", "StreamViewType",
)


class Malformed(Exception):
    """A message that cannot be replayed, and why."""


@dataclasses.dataclass(frozen=True)
class Event:
    """An event that the queue holds whole."""

    event: Mapping
    about: str


@dataclasses.dataclass(frozen=True)
class Range:
    """A range of the stream's records, of which the queue holds only the position. Both ends belong to it."""

    stream_arn: str
    shard_id: str
    start: str
    end: str
    count: int

    @property
    def about(self) -> str:
        return f"{_records(self.count)} from {self.start} to {self.end} of {self.shard_id}"

    def holds(self, sequence_number: str) -> bool:
        return int(self.start) <= int(sequence_number) <= int(self.end)


def classify(body: str) -> Event | Range:
    """The event or stream range in a message's body. An event that the function would ignore is refused."""
    try:
        content = json.loads(body)
    except ValueError:
        raise Malformed("it is not JSON") from None
    if not isinstance(content, dict):
        raise Malformed("it is not a JSON object")
    if "DDBStreamBatchInfo" in content:
        return _range(content["DDBStreamBatchInfo"])
    # Of an on-failure destination. EventBridge's queue and a function's dead-letter queue hold the event itself.
    event = content["requestPayload"] if "requestPayload" in content else content
    return Event(event, _known(event))


def reason(attributes: Mapping) -> str:
    """The reason that EventBridge or Lambda wrote beside the message; empty if there is none."""
    texts = [
        attributes[name]["StringValue"]
        for name in ("ERROR_CODE", "ERROR_MESSAGE", "ErrorMessage")
        if attributes.get(name, {}).get("StringValue")
    ]
    return ": ".join(texts)


def batches(records: Sequence[Mapping], stream_arn: str) -> Iterator[dict]:
    """Converts records of GetRecords to events of the size that the mapping makes."""
    batch: list[dict] = []
    size = 0
    for record in records:
        shaped = lambda_record(record, stream_arn)
        length = len(json.dumps(shaped))
        if batch and (len(batch) == MAX_RECORDS or size + length > MAX_BYTES):
            yield {"Records": batch}
            batch, size = [], 0
        batch.append(shaped)
        size += length
    if batch:
        yield {"Records": batch}


def lambda_record(record: Mapping, stream_arn: str) -> dict:
    """Converts one record of GetRecords to the form in which Lambda passes it to a function."""
    shaped = {
        "eventID": record.get("eventID", ""),
        "eventName": record["eventName"],
        "eventVersion": record.get("eventVersion", "1.1"),
        "eventSource": "aws:dynamodb",
        "awsRegion": stream_arn.split(":")[3],
        "dynamodb": {name: _plain(record["dynamodb"][name]) for name in _OF_A_RECORD if name in record["dynamodb"]},
        "eventSourceARN": stream_arn,
    }
    # Who removed it: what DynamoDB's own time to live removes is passed over.
    if record.get("userIdentity"):
        identity = record["userIdentity"]
        shaped["userIdentity"] = {"principalId": identity.get("PrincipalId"), "type": identity.get("Type")}
    return shaped


def failures(answer: Any) -> list[str]:
    """Sequence numbers of the records that the function names in its answer to a batch."""
    try:
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    except (TypeError, KeyError):
        raise Malformed(f"the function's answer does not name batchItemFailures: {json.dumps(answer)[:200]}") from None


def _range(info: Any) -> Range:
    try:
        found = Range(
            info["streamArn"], info["shardId"], info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]
        )
        good = (
            found.stream_arn.count(":") >= 5
            and len(found.shard_id) >= 28
            and all(re.fullmatch("[0-9]{21,40}", number) for number in (found.start, found.end))
            and int(found.start) <= int(found.end)
            and isinstance(found.count, int) and found.count > 0
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise Malformed(f"its DDBStreamBatchInfo lacks something, or is none: {error!r}") from None
    if not good:
        raise Malformed("its DDBStreamBatchInfo makes no sense")
    return found


def _known(event: Any) -> str:
    """A description of an event. It names the location, and never the configuration."""
    if isinstance(event, dict) and event.get("source") == "aws.ssm":
        detail = event.get("detail")
        if isinstance(detail, dict) and isinstance(detail.get("name"), str):
            return f"{detail.get('operation', 'change')} of {detail['name']}"
        raise Malformed("it is an event of Parameter Store that names no parameter")
    records = event.get("Records") if isinstance(event, dict) else None
    if isinstance(records, list) and records:
        if all(isinstance(record, dict) and record.get("eventSource") == "aws:dynamodb" for record in records):
            return f"{_records(len(records))} of the stream"
    raise Malformed("it is no event that the function knows")


def _records(count: int) -> str:
    return f"{count} record{'' if count == 1 else 's'}"


def _plain(value: Any) -> Any:
    """Converts boto3's values back to the JSON of the wire."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(part) for part in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        seconds = value.timestamp()
        return int(seconds) if seconds.is_integer() else seconds
    return value
