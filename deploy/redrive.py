"""Replays the dead letters of the invalidator. A message is deleted only when the function has handled what it holds, so
this can be interrupted, and run again, at any time: a change that a task receives twice does no harm (docs/adr/0003)."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Callable

from launcher.aws import AwsError
from launcher.errors import StackError

import letters
from invalidator import CallFailed, Invalidator, excerpt

HIDDEN_SECONDS = 900
"""Messages in hand are hidden from others for so long; at the end, those that stay are shown again at once."""
EMPTY_PAGES = 20
"""In a row, until nothing more is expected of a shard: GetRecords may answer with nothing before there is more."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The operator's options."""

    dry_run: bool = False
    discard_lost: bool = False
    max_messages: int | None = None
    wait_seconds: int = 1
    """Above 0 SQS queries all its servers, so that an empty answer means an empty queue."""


@dataclasses.dataclass
class Count:
    """The counts of what happened to the messages."""

    replayed: int = 0
    kept: int = 0
    discarded: int = 0
    lost: int = 0

    @property
    def all(self) -> int:
        return self.replayed + self.kept + self.discarded


@dataclasses.dataclass(frozen=True)
class Found:
    """The part of a range that the stream still has, and the lost part (empty if nothing is lost)."""

    records: list[dict]
    lost: str = ""


class Stays(Exception):
    """The reason why a message is kept."""


def run(invalidator: Invalidator, options: Options, say: Callable[[str], None] = print) -> int:
    """Replays every queue, one message after the other. Returns 1 if a message stays."""
    count = Count()
    work = _Work(invalidator, options, say, count)
    for queue in invalidator.queues:
        work.empty(queue)
    say(_summary(invalidator, options, count))
    if count.lost:
        say(f"What is lost is read anew, by every task, after `make flush ENV={invalidator.env}`.")
        if not options.discard_lost:
            say(f"After that, `make redrive ENV={invalidator.env} ARGS=--discard-lost` removes the messages about it.")
    return 1 if count.kept else 0


class _Work:
    def __init__(self, invalidator: Invalidator, options: Options, say: Callable[[str], None], count: Count) -> None:
        self._invalidator = invalidator
        self._options = options
        self._say = say
        self._count = count
        self._sqs = invalidator.client("sqs")
        self._present_stream: str | None = None

    def empty(self, queue: str) -> None:
        """Replays messages until the queue is empty, or holds only messages that were tried already."""
        name = self._invalidator.queues[queue]
        try:
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except self._sqs.exceptions.QueueDoesNotExist:
            raise StackError(f"there is no queue {name}: is all of {self._invalidator.env} deployed?") from None
        in_hand: dict[str, str] = {}
        try:
            while self._options.max_messages is None or self._count.all < self._options.max_messages:
                # One at a time: nothing waits in hand, hidden from others.
                answer = self._sqs.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=1, MessageAttributeNames=["All"],
                    VisibilityTimeout=HIDDEN_SECONDS, WaitTimeSeconds=self._options.wait_seconds,
                )
                if not answer.get("Messages"):
                    return
                message = answer["Messages"][0]
                again = message["MessageId"] in in_hand
                in_hand[message["MessageId"]] = message["ReceiptHandle"]
                if again:
                    return
                if self._settle(queue, url, message):
                    del in_hand[message["MessageId"]]
        finally:
            for handle in in_hand.values():
                with contextlib.suppress(*AwsError):
                    self._sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)

    def _settle(self, queue: str, url: str, message: dict) -> bool:
        """Replays one message and prints its line. Returns whether it is deleted."""
        about, why = "", letters.reason(message.get("MessageAttributes", {}))
        try:
            letter = letters.classify(message["Body"])
            about = letter.about
            found = self._read(letter) if isinstance(letter, letters.Range) else None
            if not self._options.dry_run:
                self._replay(letter, found)
            if found and found.lost:
                self._count.lost += 1
                if not self._options.discard_lost:
                    raise Stays(_lost(found, self._options.dry_run))
            if not self._options.dry_run:
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        except (Stays, CallFailed, letters.Malformed, *AwsError) as error:
            self._count.kept += 1
            self._line("kept", queue, f"{about or 'a message'} (id {message['MessageId']})", excerpt(str(error)))
            return False
        if found and found.lost:
            self._count.discarded += 1
            self._line("discarded", queue, about, _lost(found, self._options.dry_run))
        else:
            self._count.replayed += 1
            self._line("replayed", queue, about, f"it had failed: {why}" if why else "")
        return not self._options.dry_run

    def _replay(self, letter: letters.Event | letters.Range, found: Found | None) -> None:
        if isinstance(letter, letters.Event):
            self._call(letter.event)
        else:
            for event in letters.batches(found.records, letter.stream_arn):
                self._call(event)

    def _call(self, event: Any) -> None:
        answer = self._invalidator.call(event)
        if "Records" in event:
            failed = letters.failures(answer)
            if failed:
                raise Stays(f"the function fails on {', '.join(failed)} (its log says why)")

    def _read(self, letter: letters.Range) -> Found:
        # An older table's versions can be above those of a restored one: to replay them would bring back old values.
        if letter.stream_arn != self._stream():
            return Found([], f"all of it: {letter.stream_arn} is not the table's stream any more")
        return read(self._invalidator.client("dynamodbstreams"), letter)

    def _stream(self) -> str:
        if self._present_stream is None:
            table = self._invalidator.client("dynamodb").describe_table(TableName=self._invalidator.table)["Table"]
            self._present_stream = table.get("LatestStreamArn", "")
        return self._present_stream

    def _line(self, what: str, queue: str, about: str, more: str) -> None:
        if self._options.dry_run:
            what = {"kept": "would keep", "replayed": "would replay", "discarded": "would discard"}[what]
        self._say(f"{what:<13} {queue:<9} {about}{f': {more}' if more else ''}")


def read(streams: Any, wanted: letters.Range) -> Found:
    """Reads a range again. Records of other batches lie between those of its batch; sending them again does no harm."""
    try:
        records = _records(streams, wanted, "AT_SEQUENCE_NUMBER")
        if len(records) < wanted.count:
            raise Stays(f"the stream gave {len(records)} of its records")
        return Found(records)
    except streams.exceptions.TrimmedDataAccessException:
        with contextlib.suppress(streams.exceptions.ResourceNotFoundException):
            records = _records(streams, wanted, "TRIM_HORIZON")
            if records:
                first = records[0]["dynamodb"]["SequenceNumber"]
                return Found(records, f"what is before {first}: records are gone after 24 hours")
    except streams.exceptions.ResourceNotFoundException:
        pass
    return Found([], "all of it: records are gone after 24 hours")


def _records(streams: Any, wanted: letters.Range, start: str) -> list[dict]:
    position = {"SequenceNumber": wanted.start} if start == "AT_SEQUENCE_NUMBER" else {}
    iterator = streams.get_shard_iterator(
        StreamArn=wanted.stream_arn, ShardId=wanted.shard_id, ShardIteratorType=start, **position
    )["ShardIterator"]
    records: list[dict] = []
    empty = 0
    while iterator and empty < EMPTY_PAGES:
        page = streams.get_records(ShardIterator=iterator)
        numbers = [record["dynamodb"]["SequenceNumber"] for record in page["Records"]]
        records += [record for record, number in zip(page["Records"], numbers) if wanted.holds(number)]
        if any(int(number) >= int(wanted.end) for number in numbers):
            break
        empty = 0 if numbers else empty + 1
        iterator = page.get("NextShardIterator")
    return records


def _lost(found: Found, dry_run: bool) -> str:
    rest = f"; the other {len(found.records)} {'can be' if dry_run else 'are'} replayed" if found.records else ""
    return f"lost is {found.lost}{rest}"


def _summary(invalidator: Invalidator, options: Options, count: Count) -> str:
    if not count.all:
        return f"{invalidator.env}: no dead letters"
    would = "would be " if options.dry_run else ""
    parts = [f"{count.replayed} {would}replayed", f"{count.kept} {would}kept"]
    if count.discarded:
        parts.append(f"{count.discarded} {would}discarded")
    full = count.all == options.max_messages
    return f"{invalidator.env}: {', '.join(parts)}{'; there may be more' if full else ''}"
