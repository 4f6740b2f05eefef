"""Dead letters: what is read from them, and a redrive of queues and a stream that moto keeps, with a function of ours."""

import datetime
import io
import json
import os
import signal
import unittest
from types import SimpleNamespace
from typing import Any, Callable
from unittest import mock

import boto3
from botocore.exceptions import ClientError
from launcher.errors import StackError
from moto import mock_aws

import commands
import flush
import letters
import redrive
from invalidator import CallFailed, Invalidator, deployed, queue_names

REGION = "us-east-1"
SHARD = "shardId-00000001541626099285-f35f62ef"
STREAM = f"arn:aws:dynamodb:{REGION}:123456789012:table/Configuration/stream/2026-11-25T12:00:00.000"

# As EventBridge writes them: the rule's dead-letter queue holds the event itself, the reason is beside it.
PARAMETER_EVENT = {
    "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": "Parameter Store Change",
    "source": "aws.ssm", "account": "123456789012", "time": "2026-11-25T12:00:00Z", "region": REGION,
    "resources": [f"arn:aws:ssm:{REGION}:123456789012:parameter/tagged-config/config/global/x"],
    "detail": {"operation": "Update", "name": "/tagged-config/config/global/x", "type": "String"},
}
RULE_ATTRIBUTES = {
    "RULE_ARN": {"StringValue": f"arn:aws:events:{REGION}:123456789012:rule/r", "DataType": "String"},
    "ERROR_CODE": {"StringValue": "NO_PERMISSIONS", "DataType": "String"},
    "ERROR_MESSAGE": {"StringValue": "lambda:InvokeFunction is refused", "DataType": "String"},
}
# As Lambda writes to an on-failure destination.
DESTINATION_RECORD = {
    "version": "1.0", "timestamp": "2026-11-25T12:05:00.000Z",
    "requestContext": {
        "requestId": "e4b46cbf-b738-4514-99ac-1234567890ab",
        "functionArn": f"arn:aws:lambda:{REGION}:123456789012:function:tagged-config-invalidator:$LATEST",
        "condition": "RetriesExhausted", "approximateInvokeCount": 3,
    },
    "requestPayload": PARAMETER_EVENT,
    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    "responsePayload": {"errorType": "Error", "errorMessage": "no task could be reached"},
}


# Numbers are longer with time: as text the second would come first.
BEFORE, FIRST, LAST, AFTER = (str(10**21 + number) for number in (-2, -1, 0, 1))


def stream_letter(start: str, end: str, count: int, stream_arn: str = STREAM, shard: str = SHARD) -> dict:
    """As the event source mapping writes to its on-failure destination."""
    return {
        "requestContext": {
            "requestId": "316aa6d0-8154-xmpl-9af7-85d5f4a6bc81",
            "functionArn": f"arn:aws:lambda:{REGION}:123456789012:function:tagged-config-invalidator",
            "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 4,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0", "timestamp": "2026-11-25T12:06:00.000Z",
        "DDBStreamBatchInfo": {
            "shardId": shard, "startSequenceNumber": start, "endSequenceNumber": end,
            "approximateArrivalOfFirstRecord": "2026-11-25T12:00:00Z",
            "approximateArrivalOfLastRecord": "2026-11-25T12:00:01Z", "batchSize": count, "streamArn": stream_arn,
        },
    }


class ClassifyTest(unittest.TestCase):
    def test_an_event_as_it_was(self) -> None:
        letter = letters.classify(json.dumps(PARAMETER_EVENT))
        self.assertEqual(letter.event, PARAMETER_EVENT)
        self.assertEqual(letter.about, "Update of /tagged-config/config/global/x")

    def test_the_event_in_a_record_of_a_destination(self) -> None:
        self.assertEqual(letters.classify(json.dumps(DESTINATION_RECORD)).event, PARAMETER_EVENT)

    def test_a_batch_of_the_stream_that_was_kept_whole(self) -> None:
        batch = {"Records": [{"eventSource": "aws:dynamodb", "dynamodb": {}}]}
        self.assertEqual(letters.classify(json.dumps({"requestPayload": batch})).about, "1 record of the stream")

    def test_a_range_of_the_stream(self) -> None:
        self.assertEqual(
            letters.classify(json.dumps(stream_letter(FIRST, LAST, 2))), letters.Range(STREAM, SHARD, FIRST, LAST, 2)
        )

    def test_numbers_are_compared_as_numbers(self) -> None:
        wanted = letters.classify(json.dumps(stream_letter(FIRST, LAST, 2)))
        self.assertEqual([wanted.holds(number) for number in (BEFORE, FIRST, LAST, AFTER)], [False, True, True, False])

    def test_what_cannot_be_replayed_is_named(self) -> None:
        def without(field: str) -> dict:
            letter = stream_letter(FIRST, LAST, 2)
            del letter["DDBStreamBatchInfo"][field]
            return letter

        for body, said in (
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "not a JSON object"),
            ("null", "not a JSON object"),
            ("{}", "no event that the function knows"),
            # The function would pass over these without an error, and the message would be gone.
            ('{"source": "aws.s3", "detail": {"name": "x"}}', "no event that the function knows"),
            ('{"Records": []}', "no event that the function knows"),
            ('{"Records": [{"eventSource": "aws:sqs"}]}', "no event that the function knows"),
            ('{"Records": [1]}', "no event that the function knows"),
            ('{"source": "aws.ssm"}', "names no parameter"),
            ('{"source": "aws.ssm", "detail": {"name": 1}}', "names no parameter"),
            ('{"requestPayload": null}', "no event that the function knows"),
            ('{"requestPayload": "text"}', "no event that the function knows"),
            ('{"DDBStreamBatchInfo": null}', "lacks something"),
            (json.dumps(without("shardId")), "shardId"),
            (json.dumps(without("streamArn")), "streamArn"),
            (json.dumps(stream_letter(LAST, FIRST, 2)), "no sense"),
            (json.dumps(stream_letter(FIRST, "x" * 21, 2)), "no sense"),
            (json.dumps(stream_letter("1", "2", 2)), "no sense"),
            (json.dumps(stream_letter(FIRST, LAST, 0)), "no sense"),
            (json.dumps(stream_letter(FIRST, LAST, 2, shard="shard")), "no sense"),
            (json.dumps(stream_letter(FIRST, LAST, 2, stream_arn="stream")), "no sense"),
        ):
            with self.subTest(body=body), self.assertRaisesRegex(letters.Malformed, said):
                letters.classify(body)

    def test_the_reason_beside_a_message(self) -> None:
        self.assertEqual(letters.reason(RULE_ATTRIBUTES), "NO_PERMISSIONS: lambda:InvokeFunction is refused")
        by_lambda = {"RequestID": {"StringValue": "e"}, "ErrorCode": {"StringValue": "200"}, "ErrorMessage": {"StringValue": "no"}}
        self.assertEqual(letters.reason(by_lambda), "no")
        self.assertEqual(letters.reason({}), "")


class StreamEventTest(unittest.TestCase):
    RECORD = {
        "eventID": "1", "eventName": "MODIFY", "eventVersion": "1.1", "eventSource": "aws:dynamodb", "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": datetime.datetime(2026, 11, 25, 12, 0, 0, tzinfo=datetime.timezone.utc),
            "Keys": {"PK": {"S": "TENANT#t"}, "SK": {"S": "CONFIG#x"}},
            "NewImage": {"value": {"M": {"raw": {"B": b"\0\xff"}, "all": {"BS": [b"a"]}, "on": {"BOOL": True}}}, "n": {"N": "7"}},
            "OldImage": {"n": {"N": "6"}},
            "SequenceNumber": "111", "SizeBytes": 26, "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }

    def test_a_record_as_lambda_hands_it_over(self) -> None:
        self.assertEqual(json.loads(json.dumps(letters.lambda_record(self.RECORD, STREAM))), {
            "eventID": "1", "eventName": "MODIFY", "eventVersion": "1.1", "eventSource": "aws:dynamodb", "awsRegion": REGION,
            "eventSourceARN": STREAM,
            "dynamodb": {
                "ApproximateCreationDateTime": 1795608000,
                "Keys": {"PK": {"S": "TENANT#t"}, "SK": {"S": "CONFIG#x"}},
                "NewImage": {"value": {"M": {"raw": {"B": "AP8="}, "all": {"BS": ["YQ=="]}, "on": {"BOOL": True}}}, "n": {"N": "7"}},
                "OldImage": {"n": {"N": "6"}},
                "SequenceNumber": "111", "SizeBytes": 26, "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        })

    def test_what_dynamodb_removed_by_itself_stays_known_as_such(self) -> None:
        removed = self.RECORD | {"userIdentity": {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}}
        self.assertEqual(
            letters.lambda_record(removed, STREAM)["userIdentity"], {"principalId": "dynamodb.amazonaws.com", "type": "Service"}
        )

    def test_batches_are_as_large_as_the_mapping_makes_them(self) -> None:
        self.assertEqual([len(event["Records"]) for event in letters.batches([self.RECORD] * 250, STREAM)], [100, 100, 50])
        large = self.RECORD | {"dynamodb": self.RECORD["dynamodb"] | {"NewImage": {"v": {"S": "x" * 1_500_000}}}}
        self.assertEqual([len(event["Records"]) for event in letters.batches([large] * 5, STREAM)], [2, 2, 1])
        self.assertEqual(list(letters.batches([], STREAM)), [])

    def test_the_answer_names_what_failed(self) -> None:
        self.assertEqual(letters.failures({"batchItemFailures": []}), [])
        self.assertEqual(letters.failures({"batchItemFailures": [{"itemIdentifier": "7"}]}), ["7"])
        for answer in (None, {}, [], {"batchItemFailures": None}, {"batchItemFailures": [{}]}, "text"):
            with self.subTest(answer=answer), self.assertRaises(letters.Malformed):
                letters.failures(answer)


class Function:
    """A fake Lambda client. It handles every event except those that a test names."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.answer: Callable[[dict], Any] = lambda event: {"batchItemFailures": []} if "Records" in event else None
        self.error: str | None = None
        self.environment: dict[str, str] = {}

    def invoke(self, FunctionName: str, InvocationType: str, Payload: bytes) -> dict:
        assert (FunctionName, InvocationType) == ("tagged-config-invalidator", "RequestResponse")
        self.events.append(json.loads(Payload))
        if self.error:
            text = json.dumps({"errorType": "Error", "errorMessage": self.error})
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": io.BytesIO(text.encode())}
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(self.answer(self.events[-1])).encode())}

    def get_function_configuration(self, FunctionName: str) -> dict:
        return {"Environment": {"Variables": self.environment}}


class AccountTest(unittest.TestCase):
    """Three queues and a table with a stream in moto."""

    def setUp(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
        environment = mock.patch.dict("os.environ", kept | keys, clear=True)
        environment.start()
        self.addCleanup(environment.stop)
        aws = mock_aws()
        aws.start()
        self.addCleanup(aws.stop)
        self.function = Function()
        self.clients = {name: boto3.client(name, region_name=REGION) for name in ("sqs", "dynamodb", "dynamodbstreams")}
        self.clients["lambda"] = self.function
        self.sqs = self.clients["sqs"]
        names = queue_names("tagged-config")
        self.urls = {name: self.sqs.create_queue(QueueName=queue)["QueueUrl"] for name, queue in names.items()}
        self.invalidator = Invalidator("dev", "tagged-config-invalidator", names, "Configuration", self.clients.__getitem__)
        self.stream = self.clients["dynamodb"].create_table(
            TableName="Configuration", BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )["TableDescription"]["LatestStreamArn"]
        self.said: list[str] = []

    def put(self, queue: str, body: Any, attributes: dict | None = None) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.sqs.send_message(QueueUrl=self.urls[queue], MessageBody=text, MessageAttributes=attributes or {})

    def write(self, count: int) -> list[str]:
        """Items, and the sequence numbers that their records have."""
        for version in range(1, count + 1):
            item = {"PK": {"S": "TENANT#t"}, "SK": {"S": "CONFIG#x"}, "version": {"N": str(version)}, "raw": {"B": b"\xff"}}
            self.clients["dynamodb"].put_item(TableName="Configuration", Item=item)
        streams = self.clients["dynamodbstreams"]
        start = streams.get_shard_iterator(StreamArn=self.stream, ShardId=SHARD, ShardIteratorType="TRIM_HORIZON")
        page = streams.get_records(ShardIterator=start["ShardIterator"])
        return [record["dynamodb"]["SequenceNumber"] for record in page["Records"]]

    def redrive(self, **options: Any) -> int:
        self.said.clear()
        return redrive.run(self.invalidator, redrive.Options(wait_seconds=0, **options), self.said.append)

    def left(self) -> dict[str, int]:
        """Messages that anybody could take now, by queue."""
        name = "ApproximateNumberOfMessages"
        answers = {queue: self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name]) for queue, url in self.urls.items()}
        return {queue: int(answer["Attributes"][name]) for queue, answer in answers.items() if answer["Attributes"][name] != "0"}

    def refuse(self, operation: str, code: str, times: int = 1000) -> None:
        """Has the stream refuse the first calls of an operation."""
        streams = self.clients["dynamodbstreams"]
        real, error = getattr(streams, operation), streams.exceptions.from_code(code)
        answers = iter([error({"Error": {"Code": code, "Message": "no"}}, operation)] * times)

        def call(**options: Any) -> Any:
            refusal = next(answers, None)
            if refusal:
                raise refusal
            return real(**options)

        setattr(streams, operation, call)


class RedriveTest(AccountTest):
    def test_nothing_is_to_be_done(self) -> None:
        self.assertEqual(self.redrive(), 0)
        self.assertEqual(self.said, ["dev: no dead letters"])

    def test_every_shape_is_replayed_and_gone(self) -> None:
        numbers = self.write(4)
        self.put("rule", PARAMETER_EVENT, RULE_ATTRIBUTES)
        self.put("function", DESTINATION_RECORD)
        self.put("stream", stream_letter(numbers[1], numbers[2], 2, self.stream))
        self.assertEqual(self.redrive(), 0)
        self.assertEqual(self.function.events[:2], [PARAMETER_EVENT, PARAMETER_EVENT])
        (batch,) = self.function.events[2:]
        self.assertEqual([record["dynamodb"]["SequenceNumber"] for record in batch["Records"]], numbers[1:3])
        first = batch["Records"][0]
        self.assertEqual(first["eventName"], "MODIFY")
        self.assertIsInstance(first["dynamodb"]["ApproximateCreationDateTime"], (int, float))
        self.assertEqual(first["dynamodb"]["OldImage"]["version"], {"N": "1"})
        self.assertEqual(first["dynamodb"]["NewImage"]["raw"], {"B": "/w=="})
        self.assertEqual(self.left(), {})
        self.assertEqual(self.said, [
            "replayed      rule      Update of /tagged-config/config/global/x: it had failed: NO_PERMISSIONS: "
            "lambda:InvokeFunction is refused",
            "replayed      function  Update of /tagged-config/config/global/x",
            f"replayed      stream    2 records from {numbers[1]} to {numbers[2]} of {SHARD}",
            "dev: 3 replayed, 0 kept",
        ])
        self.assertEqual(self.redrive(), 0)
        self.assertEqual(len(self.function.events), 3)

    def test_what_fails_stays_and_can_be_taken_at_once(self) -> None:
        for number in range(3):
            self.put("function", PARAMETER_EVENT | {"id": str(number)})
        self.function.error = "no task could be reached"
        self.assertEqual(self.redrive(), 1)
        self.assertEqual(len(self.function.events), 3)
        self.assertEqual(self.left(), {"function": 3})
        self.assertIn("the function failed (Unhandled): no task could be reached", self.said[0])
        self.assertEqual(self.said[-1], "dev: 0 replayed, 3 kept")
        self.function.error = None
        self.assertEqual(self.redrive(), 0)
        self.assertEqual(self.left(), {})

    def test_a_batch_stays_when_one_of_its_records_fails(self) -> None:
        numbers = self.write(2)
        self.put("stream", stream_letter(numbers[0], numbers[1], 2, self.stream))
        for answer, said in (
            ({"batchItemFailures": [{"itemIdentifier": numbers[1]}]}, f"fails on {numbers[1]}"),
            (None, "does not name batchItemFailures: null"),
        ):
            with self.subTest(answer=answer):
                self.function.answer = lambda _: answer
                self.assertEqual(self.redrive(), 1)
                self.assertIn(said, self.said[0])
                self.assertEqual(self.left(), {"stream": 1})

    def test_malformed_messages_stay_and_hold_up_nothing(self) -> None:
        self.put("rule", "not for us")
        self.put("rule", PARAMETER_EVENT)
        self.assertEqual(self.redrive(), 1)
        self.assertEqual(self.left(), {"rule": 1})
        self.assertRegex(self.said[0], r"^kept          rule      a message \(id \S+\): it is not JSON$")
        self.assertEqual(self.said[-1], "dev: 1 replayed, 1 kept")

    def test_a_dry_run_does_nothing(self) -> None:
        numbers = self.write(1)
        self.put("rule", PARAMETER_EVENT)
        self.put("rule", "{")
        self.put("stream", stream_letter(numbers[0], numbers[0], 1, self.stream))
        self.assertEqual(self.redrive(dry_run=True), 1)
        self.assertEqual(self.function.events, [])
        self.assertEqual(self.left(), {"rule": 2, "stream": 1})
        self.assertTrue(all(line.startswith("would ") for line in self.said[:3]), self.said)
        self.assertEqual(self.said[-1], "dev: 2 would be replayed, 1 would be kept")

    def test_no_more_messages_than_wanted(self) -> None:
        for _ in range(3):
            self.put("rule", PARAMETER_EVENT)
        self.put("function", PARAMETER_EVENT)
        self.assertEqual(self.redrive(max_messages=2), 0)
        self.assertEqual(self.left(), {"rule": 1, "function": 1})
        self.assertEqual(self.said[-1], "dev: 2 replayed, 0 kept; there may be more")

    def test_an_interruption_gives_back_what_is_in_hand(self) -> None:
        self.put("rule", PARAMETER_EVENT)

        def interrupted(_: dict) -> None:
            raise KeyboardInterrupt

        self.function.answer = interrupted
        with self.assertRaises(KeyboardInterrupt):
            self.redrive()
        self.assertEqual(self.left(), {"rule": 1})

    def test_the_end_from_outside_is_an_interruption_too(self) -> None:
        self.put("rule", PARAMETER_EVENT)
        self.function.answer = lambda _: os.kill(os.getpid(), signal.SIGTERM)
        self.addCleanup(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        arguments = SimpleNamespace(dry_run=False, discard_lost=False, max_messages=None)
        with mock.patch.object(commands, "_invalidator", lambda _: self.invalidator), self.assertRaises(SystemExit) as end:
            commands.redrive(arguments)
        self.assertEqual(end.exception.code, 143)
        self.assertEqual(self.left(), {"rule": 1})

    def test_a_message_that_cannot_be_deleted_counts_as_kept(self) -> None:
        self.put("rule", PARAMETER_EVENT)
        denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DeleteMessage")
        with mock.patch.object(self.sqs, "delete_message", side_effect=denied):
            self.assertEqual(self.redrive(), 1)
        self.assertIn("DeleteMessage", self.said[0])
        self.assertEqual(self.left(), {"rule": 1})

    def test_a_queue_that_is_missing_is_named(self) -> None:
        self.sqs.delete_queue(QueueUrl=self.urls["function"])
        with self.assertRaisesRegex(StackError, "no queue tagged-config-function-dead-letter"):
            self.redrive()


class LostTest(AccountTest):
    """Ranges of which the stream has nothing any more, or not all."""

    def setUp(self) -> None:
        super().setUp()
        self.numbers = self.write(3)
        self.put("stream", stream_letter(self.numbers[0], self.numbers[2], 3, self.stream))

    def lose_all(self) -> None:
        self.refuse("get_shard_iterator", "ResourceNotFoundException")

    def test_a_lost_range_is_named_and_stays(self) -> None:
        self.lose_all()
        self.assertEqual(self.redrive(), 1)
        self.assertEqual(self.function.events, [])
        self.assertEqual(self.left(), {"stream": 1})
        self.assertIn(f"3 records from {self.numbers[0]} to {self.numbers[2]} of {SHARD} (id ", self.said[0])
        self.assertIn("lost is all of it", self.said[0])
        self.assertIn("make flush ENV=dev", self.said[-2])
        self.assertIn("ARGS=--discard-lost", self.said[-1])

    def test_a_lost_range_is_discarded_when_that_is_wanted(self) -> None:
        self.lose_all()
        self.assertEqual(self.redrive(dry_run=True, discard_lost=True), 0)
        self.assertTrue(self.said[0].startswith("would discard stream "), self.said)
        self.assertEqual(self.left(), {"stream": 1})
        self.assertEqual(self.redrive(discard_lost=True), 0)
        self.assertTrue(self.said[0].startswith("discarded     stream "), self.said)
        self.assertEqual(self.said[1], "dev: 0 replayed, 0 kept, 1 discarded")
        self.assertIn("make flush ENV=dev", self.said[-1])
        self.assertEqual(self.left(), {})

    def test_all_is_trimmed_of_an_open_shard(self) -> None:
        self.refuse("get_shard_iterator", "TrimmedDataAccessException", times=1)
        streams = self.clients["dynamodbstreams"]
        with mock.patch.object(streams, "get_records", return_value={"Records": [], "NextShardIterator": "n"}) as get:
            self.assertEqual(self.redrive(), 1)
        self.assertEqual(get.call_count, redrive.EMPTY_PAGES)
        self.assertIn("lost is all of it", self.said[0])

    def test_what_is_left_of_a_range_is_replayed(self) -> None:
        self.refuse("get_shard_iterator", "TrimmedDataAccessException", times=1)
        streams = self.clients["dynamodbstreams"]
        real = streams.get_records

        def trimmed(**options: Any) -> dict:
            page = real(**options)
            return page | {"Records": page["Records"][1:]}

        with mock.patch.object(streams, "get_records", trimmed):
            self.assertEqual(self.redrive(), 1)
        self.assertEqual([len(event["Records"]) for event in self.function.events], [2])
        self.assertIn(f"lost is what is before {self.numbers[1]}", self.said[0])
        self.assertIn("the other 2 are replayed", self.said[0])
        self.assertEqual(self.left(), {"stream": 1})

    def test_what_fails_is_not_discarded(self) -> None:
        self.refuse("get_shard_iterator", "TrimmedDataAccessException", times=1)
        self.function.error = "no"
        self.assertEqual(self.redrive(discard_lost=True), 1)
        self.assertEqual(self.left(), {"stream": 1})

    def test_a_stream_that_does_not_answer_in_full_is_not_taken_for_lost(self) -> None:
        streams = self.clients["dynamodbstreams"]
        with mock.patch.object(streams, "get_records", return_value={"Records": []}):
            self.assertEqual(self.redrive(discard_lost=True), 1)
        self.assertIn("the stream gave 0 of its records", self.said[0])
        self.assertEqual(self.left(), {"stream": 1})

    def test_empty_pages_and_later_records_are_passed(self) -> None:
        streams = self.clients["dynamodbstreams"]
        real, calls = streams.get_records, []

        def slow(**options: Any) -> dict:
            calls.append(options)
            if len(calls) % 2:
                return {"Records": [], "NextShardIterator": options["ShardIterator"]}
            return real(**options, Limit=2)

        with mock.patch.object(streams, "get_records", slow):
            self.assertEqual(self.redrive(), 0)
        self.assertEqual(len(calls), 4)
        self.assertEqual([len(event["Records"]) for event in self.function.events], [3])

    def test_an_older_tables_stream_is_not_read(self) -> None:
        self.redrive()
        self.function.events.clear()
        self.put("stream", stream_letter(FIRST, LAST, 2, STREAM))
        self.assertEqual(self.redrive(), 1)
        self.assertEqual(self.function.events, [])
        self.assertIn("is not the table's stream any more", self.said[0])


class FlushTest(AccountTest):
    def flush(self, answer: Any) -> int:
        self.said.clear()
        self.function.answer = lambda _: answer
        return flush.run(self.invalidator, self.said.append)

    def test_every_task(self) -> None:
        self.assertEqual(self.flush({"flushed": {"targets": 3, "acknowledged": 3}}), 0)
        self.assertEqual(self.function.events, [{"flush": True}])
        self.assertEqual(self.said, ["dev: 3 of 3 tasks flushed: they read everything anew"])

    def test_the_others_find_it_in_the_journal(self) -> None:
        self.function.environment = {"TAGGED_CONFIG_JOURNAL_TABLE": "Journal"}
        self.assertEqual(self.flush({"flushed": {"targets": 3, "acknowledged": 2}}), 0)
        self.assertEqual(self.said[1], "not reached: 1; the rest flush at their next sweep of the journal")

    def test_without_a_journal_it_has_to_be_done_again(self) -> None:
        with self.assertRaisesRegex(StackError, "not reached: 1; .*run it again"):
            self.flush({"flushed": {"targets": 3, "acknowledged": 2}})

    def test_another_answer_is_no_flush(self) -> None:
        for answer in (None, {}, [], "x", {"flushed": 3}, {"flushed": {"targets": 3}}, {"flushed": {"targets": True, "acknowledged": 0}},
                       {"flushed": {"targets": 3, "acknowledged": "3"}}, {"flushed": {"targets": 3, "acknowledged": -1}}):
            with self.subTest(answer=answer), self.assertRaisesRegex(StackError, "not flushed: an unexpected answer"):
                self.flush(answer)

    def test_a_failure_is_printed(self) -> None:
        self.function.error = "the flush is not in the journal"
        with self.assertRaisesRegex(StackError, r"not flushed: the function failed \(Unhandled\): the flush is not in the journal"):
            self.flush(None)


class NamesTest(unittest.TestCase):
    def test_on_aws(self) -> None:
        outputs = {
            "region": REGION, "table_name": "T", "log_group_names": {"invalidator": "/aws/lambda/tagged-config-dev-invalidator"},
        }
        found = deployed("dev", "tagged-config-dev", outputs)
        self.assertEqual((found.function, found.table), ("tagged-config-dev-invalidator", "T"))
        self.assertEqual(found.queues["stream"], "tagged-config-dev-stream-dead-letter")

    def test_an_answer_that_is_no_json(self) -> None:
        answers = SimpleNamespace(invoke=lambda **_: {"Payload": io.BytesIO(b"<html>")})
        with self.assertRaisesRegex(CallFailed, "no JSON: <html>"):
            Invalidator("dev", "f", {}, "T", lambda _: answers).call({})


if __name__ == "__main__":
    unittest.main()
