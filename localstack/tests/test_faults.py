"""The fault extension: each fault as a client of the emulator sees it, and the endpoint that sets and clears them."""

from __future__ import annotations

import io
import json
import tempfile
import time
import unittest
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

import faults
from faults import document
from faults.control import Plan
from launcher import processes
from tests.running_emulator import RunningEmulator

QUIET_SECONDS = 0.7
"""How long nothing must arrive to show that nothing was sent."""

FUNCTION = """
import json
def handler(event, context):
    with open({log!r}, "a") as log:
        log.write(json.dumps(event) + "\\n")
"""


class FaultTest(unittest.TestCase):
    """An emulator whose faults each test sets, and which has none between two tests."""

    emulator: RunningEmulator

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = RunningEmulator()
        cls.addClassCleanup(cls.emulator.stop)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)

    def setUp(self) -> None:
        self.addCleanup(self.control, "DELETE")
        self.name = self.id().rpartition(".")[2]
        self.before = self.control("GET")["counters"]

    def control(self, method: str, body: Any = None) -> dict:
        """One request to the endpoint. Bytes are sent as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.emulator.url + faults.PATH, data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def set(self, **document: Any) -> None:
        self.control("PUT", document)

    def counted(self, *path: str) -> int:
        """How often something happened during this test."""
        now: Any = self.control("GET")["counters"]
        before: Any = self.before
        for part in path:
            now, before = now[part], before[part]
        return now - before

    def eventually(self, condition, seconds: float = 30) -> None:
        self.assertTrue(processes.wait_until(condition, seconds), f"not within {seconds} s")

    def function(self, name: str) -> tuple[str, Path]:
        """A function that writes down each event that it is given: its ARN, and where."""
        log = self.folder / f"{name}.log"
        log.touch()
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("index.py", FUNCTION.format(log=str(log)))
        arn = self.emulator.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role=self.emulator.role(f"function-{name}", "lambda.amazonaws.com"),
            Handler="index.handler",
            Code={"ZipFile": archive.getvalue()},
        )["FunctionArn"]
        return arn, log


class Endpoint(FaultTest):
    """What can be set, shown and cleared."""

    def refused(self, body: Any) -> str:
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.control("PUT", body)
        with caught.exception as answer:
            self.assertEqual(answer.code, 400)
            return json.load(answer)["message"]

    def test_put_replaces_and_delete_clears(self) -> None:
        self.assertEqual(self.control("GET")["faults"], {})
        self.set(seed=7, calls={"ssm": {"throttle": 1}})
        answer = self.control("PUT", {"down": {"dynamodb": True}})
        self.assertEqual(answer["faults"], {"down": {"dynamodb": True}})
        self.assertEqual(answer, self.control("GET"))
        self.emulator.client("ssm").describe_parameters()
        self.assertEqual(self.control("DELETE")["faults"], {})
        self.emulator.client("dynamodb").list_tables()

    def test_every_field_is_taken(self) -> None:
        everything = {
            "seed": 1,
            "events": {
                "parameter-store": {"drop": 0.1, "duplicate": 0.1, "delay": 0.5, "delay_ms": [0, 10]},
                "dynamodb": {"drop": 0.1, "duplicate": 0.1, "delay": 0.5, "delay_ms": [0, 10], "reorder": 0.5},
            },
            "invalidator": {"fail": 0.1},
            "calls": {
                service: {"throttle": 0.1, "error": 0.1, "latency_ms": [0, 10]} for service in document.SERVICES
            },
            "stale_reads": {"ssm": {"share": 0.1, "lag_ms": 1500}},
            "down": {"ssm": False, "dynamodb": False, "s3": False, "secretsmanager": False},
            "exempt_access_keys": ["chaos-writer"],
        }
        self.assertEqual(self.control("PUT", everything)["faults"], everything)

    def test_a_bad_document_changes_nothing(self) -> None:
        self.set(seed=3)
        for body, message in (
            (b"{", "the body must be a JSON document"),
            (b"\xff", "the body must be a JSON document"),
            ([], "the document must be an object"),
            ({"event": {}}, "unknown field event: there is seed, exempt_access_keys, events"),
            ({"events": {"s3": {}}}, "unknown field events.s3: there is parameter-store, dynamodb"),
            ({"events": {"parameter-store": {"reorder": 1}}}, "unknown field events.parameter-store.reorder"),
            ({"events": {"dynamodb": {"drop": 1.1}}}, "events.dynamodb.drop must be a number from 0 to 1"),
            ({"events": {"dynamodb": {"drop": True}}}, "events.dynamodb.drop must be a number from 0 to 1"),
            (b'{"invalidator": {"fail": NaN}}', "invalidator.fail must be a number from 0 to 1"),
            ({"events": {"dynamodb": {"delay": 1}}}, "events.dynamodb.delay needs delay_ms"),
            ({"calls": {"ssm": {"latency_ms": [2, 1]}}}, "calls.ssm.latency_ms must be [min, max] in milliseconds"),
            ({"calls": {"ssm": {"latency_ms": 5}}}, "calls.ssm.latency_ms must be [min, max] in milliseconds"),
            ({"stale_reads": {"ssm": {"lag_ms": -1}}}, "stale_reads.ssm.lag_ms must be milliseconds from 0 to 60000"),
            ({"down": {"ssm": 1}}, "down.ssm must be true or false"),
            ({"down": {"kms": True}}, "unknown field down.kms: there is ssm, dynamodb, s3, secretsmanager"),
            ({"seed": "1"}, "seed must be a whole number"),
            ({"exempt_access_keys": "test"}, "exempt_access_keys must be a list of access key ids"),
        ):
            with self.subTest(body=body):
                self.assertIn(message, self.refused(body))
        self.assertEqual(self.control("GET")["faults"], {"seed": 3})

    def test_other_methods(self) -> None:
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.control("POST", {})
        with caught.exception as answer:
            self.assertEqual((answer.code, answer.headers["Allow"]), (405, "PUT, GET, DELETE"))


class Dice(unittest.TestCase):
    """The same seed decides the same."""

    def _decisions(self, seed: int, other_kind: bool = False) -> list[bool]:
        plan = Plan(document.parse({"seed": seed}))
        decisions = []
        for _ in range(100):
            if other_kind:
                plan.hits("calls.ssm.error", 0.5)
            decisions.append(plan.hits("calls.ssm.throttle", 0.5))
        return decisions

    def test_a_seed_repeats_and_another_differs(self) -> None:
        self.assertEqual(self._decisions(1), self._decisions(1))
        self.assertNotEqual(self._decisions(1), self._decisions(2))

    def test_one_kind_does_not_move_another(self) -> None:
        self.assertEqual(self._decisions(1), self._decisions(1, other_kind=True))

    def test_shares(self) -> None:
        plan = Plan(document.parse({}))
        self.assertFalse(any(plan.hits("kind", 0) for _ in range(100)))
        self.assertTrue(all(plan.hits("kind", 1) for _ in range(100)))
        self.assertAlmostEqual(sum(plan.hits("kind", 0.2) for _ in range(2000)) / 2000, 0.2, delta=0.05)


class Calls(FaultTest):
    """What clients of the stores are answered."""

    def setUp(self) -> None:
        super().setUp()
        self.ssm, self.dynamodb = (self.emulator.client(service) for service in ("ssm", "dynamodb"))
        self.keys = self.emulator.user(f"writer-{self.name}")
        self.writer = self.emulator.client("ssm", self.keys)

    def failure(self, call) -> tuple[int, str]:
        with self.assertRaises(ClientError) as caught:
            call()
        answer = caught.exception.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]

    def test_throttled_before_it_is_carried_out(self) -> None:
        self.set(calls={"ssm": {"throttle": 1}, "dynamodb": {"throttle": 1}})
        put = lambda: self.ssm.put_parameter(Name=self.name, Value="1", Type="String")
        self.assertEqual(self.failure(put), (400, "ThrottlingException"))
        self.assertEqual(self.failure(self.dynamodb.list_tables), (400, "ThrottlingException"))
        self.assertEqual(self.counted("calls", "ssm", "throttled"), 1)
        self.assertEqual(self.counted("calls", "dynamodb", "throttled"), 1)
        self.control("DELETE")
        self.assertEqual(self.ssm.get_parameters(Names=[self.name])["InvalidParameters"], [self.name])
        self.assertEqual(self.counted("calls", "ssm", "throttled"), 1, "clearing keeps the counters")

    def test_an_error_of_the_service(self) -> None:
        self.set(calls={"ssm": {"error": 1}, "dynamodb": {"error": 1}})
        self.assertEqual(self.failure(self.ssm.describe_parameters), (500, "InternalServerError"))
        self.assertEqual(self.failure(self.dynamodb.list_tables), (500, "InternalServerError"))
        self.assertEqual(self.counted("calls", "ssm", "failed"), 1)
        self.assertEqual(self.counted("calls", "dynamodb", "failed"), 1)

    def test_objects_and_secrets(self) -> None:
        s3, secrets = self.emulator.client("s3"), self.emulator.client("secretsmanager")
        bucket = self.name.replace("_", "-")
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="a", Body=b"1")
        put = lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"2")
        get = lambda: s3.get_object(Bucket=bucket, Key="a")
        head = lambda: s3.head_object(Bucket=bucket, Key="a")
        create = lambda: secrets.create_secret(Name=self.name, SecretString="1")
        self.set(calls={"s3": {"throttle": 1}, "secretsmanager": {"throttle": 1}})
        for call, code in ((put, "SlowDown"), (get, "SlowDown"), (head, "503")):
            self.assertEqual(self.failure(call), (503, code))
        self.assertEqual(self.failure(create), (400, "ThrottlingException"))
        self.set(calls={"s3": {"error": 1}, "secretsmanager": {"error": 1}})
        self.assertEqual(self.failure(get), (500, "InternalError"))
        self.assertEqual(self.failure(create), (500, "InternalServiceError"))
        self.set(down={"s3": True})
        with self.assertRaises(ConnectionClosedError):
            get()
        self.assertEqual(secrets.list_secrets()["SecretList"], [])
        self.set(down={"secretsmanager": True}, calls={"s3": {"latency_ms": [300, 400]}})
        with self.assertRaises(ConnectionClosedError):
            create()
        start = time.monotonic()
        self.assertEqual(get()["Body"].read(), b"1")
        self.assertGreaterEqual(time.monotonic() - start, 0.3)
        for service, what, count in (
            ("s3", "throttled", 3), ("s3", "failed", 1), ("s3", "refused", 1), ("s3", "slowed", 1),
            ("secretsmanager", "throttled", 1), ("secretsmanager", "failed", 1), ("secretsmanager", "refused", 1),
        ):
            self.assertEqual(self.counted("calls", service, what), count, f"{service} {what}")

    def test_an_address_of_s3_that_is_signed_in_the_query(self) -> None:
        s3 = self.emulator.client("s3")
        bucket = "signed-address"
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="a", Body=b"1")
        signing = self.emulator.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
        address = signing.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})
        self.set(calls={"s3": {"throttle": 1}})
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address, timeout=10)
        with caught.exception as answer:
            self.assertEqual((answer.code, b"<Code>SlowDown</Code>" in answer.read()), (503, True))

    def test_exempt_access_keys_of_s3(self) -> None:
        self.set(calls={"s3": {"throttle": 1}}, down={"secretsmanager": True}, exempt_access_keys=[self.keys["AWS_ACCESS_KEY_ID"]])
        self.emulator.client("s3", self.keys).list_buckets()
        self.emulator.client("secretsmanager", self.keys).list_secrets()
        self.assertEqual(self.failure(self.emulator.client("s3").list_buckets), (503, "SlowDown"))

    def test_a_share_and_only_of_the_service_that_is_named(self) -> None:
        self.set(seed=5, calls={"ssm": {"throttle": 0.5}})
        throttled = 0
        for _ in range(40):
            self.dynamodb.list_tables()
            try:
                self.ssm.describe_parameters()
            except self.ssm.exceptions.ClientError:
                throttled += 1
        self.assertTrue(8 <= throttled <= 32, throttled)
        self.assertEqual(self.counted("calls", "ssm", "throttled"), throttled)

    def test_latency(self) -> None:
        self.set(calls={"dynamodb": {"latency_ms": [300, 400]}})
        start = time.monotonic()
        self.dynamodb.list_tables()
        self.assertGreaterEqual(time.monotonic() - start, 0.3)
        start = time.monotonic()
        self.ssm.describe_parameters()
        self.assertLess(time.monotonic() - start, 0.3)
        self.assertEqual(self.counted("calls", "dynamodb", "slowed"), 1)

    def test_down_is_a_connection_without_an_answer(self) -> None:
        self.set(down={"ssm": True})
        for _ in range(2):
            with self.assertRaises(ConnectionClosedError):
                self.ssm.describe_parameters()
        self.dynamodb.list_tables()
        self.assertEqual(self.counted("calls", "ssm", "refused"), 2)
        self.set(down={"dynamodb": True})
        self.ssm.describe_parameters()
        with self.assertRaises(ConnectionClosedError):
            self.dynamodb.list_tables()

    def test_exempt_access_keys(self) -> None:
        another = self.emulator.user(f"another-{self.name}")
        exempt = [keys["AWS_ACCESS_KEY_ID"] for keys in (self.keys, another)]
        self.set(calls={"ssm": {"throttle": 1}}, down={"dynamodb": True}, exempt_access_keys=exempt)
        self.writer.put_parameter(Name=self.name, Value="1", Type="String")
        self.emulator.client("dynamodb", another).list_tables()
        self.assertEqual(self.failure(self.ssm.describe_parameters), (400, "ThrottlingException"))
        with self.assertRaises(ConnectionClosedError):
            self.dynamodb.list_tables()

    def test_stale_reads(self) -> None:
        self.ssm.put_parameter(Name=self.name, Value="old", Type="SecureString")
        self.set(stale_reads={"ssm": {"share": 1, "lag_ms": 1000}}, exempt_access_keys=[self.keys["AWS_ACCESS_KEY_ID"]])
        self.assertEqual(self.value(self.ssm), "old")
        self.ssm.put_parameter(Name=self.name, Value="new", Overwrite=True)
        written = time.monotonic()
        self.assertEqual(self.value(self.ssm), "old")
        self.assertEqual(
            [parameter["Version"] for parameter in self.ssm.get_parameters(Names=[self.name])["Parameters"]], [1]
        )
        self.assertEqual(self.value(self.writer), "new")
        self.assertEqual(self.counted("stale_reads", "ssm", "answered"), 2)
        self.eventually(lambda: self.value(self.ssm) == "new", 5)
        self.assertGreaterEqual(time.monotonic() - written, 0.9)

    def test_stale_reads_of_what_was_made_or_deleted(self) -> None:
        self.set(stale_reads={"ssm": {"share": 1, "lag_ms": 600}})
        self.ssm.put_parameter(Name=self.name, Value="1", Type="String")
        with self.assertRaises(self.ssm.exceptions.ParameterNotFound):
            self.value(self.ssm)
        self.assertEqual(self.ssm.get_parameters(Names=[self.name])["InvalidParameters"], [self.name])
        self.eventually(lambda: not self.ssm.get_parameters(Names=[self.name])["InvalidParameters"], 5)
        self.ssm.delete_parameters(Names=[self.name])
        self.assertEqual(self.value(self.ssm), "1")
        self.eventually(lambda: self.ssm.get_parameters(Names=[self.name])["InvalidParameters"], 5)

    def value(self, client: Any) -> str:
        return client.get_parameter(Name=self.name, WithDecryption=True)["Parameter"]["Value"]


class ParameterEvents(FaultTest):
    """Parameter Store's changes on their way to a rule's targets."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.ssm, cls.events = (cls.emulator.client(service) for service in ("ssm", "events"))

    def setUp(self) -> None:
        super().setUp()
        arn, self.log = self.function(self.name)
        self.events.put_rule(
            Name=self.name,
            EventPattern=json.dumps({"source": ["aws.ssm"], "detail": {"name": [{"prefix": f"/{self.name}/"}]}}),
        )
        self.events.put_targets(Rule=self.name, Targets=[{"Id": "function", "Arn": arn}])

    def change(self, *names: str) -> None:
        for name in names:
            self.ssm.put_parameter(Name=f"/{self.name}/{name}", Value="1", Type="String")

    def arrived(self) -> list[str]:
        return [json.loads(line)["detail"]["name"].rpartition("/")[2] for line in self.log.read_text().splitlines()]

    def counters(self, what: str) -> int:
        return self.counted("events", "parameter-store", what)

    def test_drop(self) -> None:
        self.set(events={"parameter-store": {"drop": 1}})
        self.change("lost", "lost-too")
        self.assertEqual(self.counters("dropped"), 2)
        self.control("DELETE")
        self.change("kept")
        self.eventually(lambda: self.arrived() == ["kept"])

    def test_duplicate(self) -> None:
        self.set(events={"parameter-store": {"duplicate": 1}})
        self.change("twice")
        self.eventually(lambda: self.arrived() == ["twice"] * 2)
        self.assertEqual(self.counters("duplicated"), 1)

    def test_a_late_event_lets_the_next_one_pass(self) -> None:
        self.set(events={"parameter-store": {"delay": 1, "delay_ms": [1000, 1000]}})
        self.change("late")
        self.assertEqual(self.control("GET")["held"]["parameter-store"], 1)
        self.set()
        self.change("early")
        self.eventually(lambda: self.arrived() == ["early", "late"])
        self.assertEqual((self.counters("delayed"), self.counters("reordered")), (1, 1))

    def test_reordered_events_are_counted(self) -> None:
        self.set(seed=1, events={"parameter-store": {"delay": 0.5, "delay_ms": [0, 600]}})
        names = [str(number) for number in range(20)]
        self.change(*names)
        self.eventually(lambda: sorted(self.arrived()) == sorted(names))
        self.assertNotEqual(self.arrived(), names)
        self.assertGreater(self.counters("reordered"), 0)

    def test_clearing_delivers_what_is_held(self) -> None:
        self.set(events={"parameter-store": {"delay": 1, "delay_ms": [60_000, 60_000]}})
        self.change("held")
        self.control("DELETE")
        self.eventually(lambda: self.arrived() == ["held"])
        self.assertEqual(self.control("GET")["held"]["parameter-store"], 0)

    def test_a_failed_invocation_is_lost(self) -> None:
        self.set(invalidator={"fail": 1})
        self.change("lost")
        self.eventually(lambda: self.counted("invalidator", "failed") == 1)
        self.control("DELETE")
        time.sleep(QUIET_SECONDS)
        self.assertEqual(self.arrived(), [])


class StreamBatches(FaultTest):
    """A table's changes on their way to the function of its event source mapping."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.dynamodb = cls.emulator.client("dynamodb")

    def setUp(self) -> None:
        super().setUp()
        arn, self.log = self.function(self.name)
        stream = self.dynamodb.create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )["TableDescription"]["LatestStreamArn"]
        functions = self.emulator.client("lambda")
        mapping = functions.create_event_source_mapping(
            EventSourceArn=stream, FunctionName=arn, StartingPosition="LATEST", BatchSize=100
        )["UUID"]
        self.addCleanup(functions.delete_event_source_mapping, UUID=mapping)
        self.write("warm", 0)
        self.eventually(lambda: self.arrived() == [("warm", 0)], 20)

    def write(self, item: str, version: int = 1) -> None:
        self.dynamodb.put_item(TableName=self.name, Item={"id": {"S": item}, "version": {"N": str(version)}})

    def arrived(self) -> list[tuple[str, int]]:
        images = (
            record["dynamodb"]["NewImage"]
            for line in self.log.read_text().splitlines()
            for record in json.loads(line)["Records"]
        )
        return [(image["id"]["S"], int(image["version"]["N"])) for image in images]

    def after(self, *expected: tuple[str, int]) -> None:
        """Waits for exactly these, after the first."""
        self.eventually(lambda: self.arrived()[1:] == list(expected))

    def counters(self, what: str) -> int:
        return self.counted("events", "dynamodb", what)

    def test_drop(self) -> None:
        self.set(events={"dynamodb": {"drop": 1}})
        self.write("lost")
        self.eventually(lambda: self.counters("dropped") == 1)
        self.control("DELETE")
        self.write("kept")
        self.after(("kept", 1))

    def test_duplicate_later(self) -> None:
        self.set(events={"dynamodb": {"duplicate": 1, "delay_ms": [1000, 1000]}})
        self.write("first")
        self.eventually(lambda: self.counters("duplicated") == 1)
        self.assertEqual(self.control("GET")["held"]["dynamodb"], 1)
        self.set()
        self.write("second")
        self.after(("first", 1), ("second", 1), ("first", 1))

    def test_delay_holds_the_stream_in_order(self) -> None:
        self.set(events={"dynamodb": {"delay": 1, "delay_ms": [800, 800]}})
        start = time.monotonic()
        self.write("first")
        self.eventually(lambda: self.counters("delayed") == 1)
        self.set()
        self.write("second")
        self.after(("first", 1), ("second", 1))
        self.assertGreaterEqual(time.monotonic() - start, 0.8)

    def test_clearing_delivers_what_is_held(self) -> None:
        self.set(events={"dynamodb": {"delay": 1, "delay_ms": [60_000, 60_000]}})
        self.write("held")
        self.eventually(lambda: self.counters("delayed") == 1)
        self.control("DELETE")
        self.after(("held", 1))
        self.eventually(lambda: self.control("GET")["held"]["dynamodb"] == 0)

    def test_reorder_across_items(self) -> None:
        self.set(events={"dynamodb": {"reorder": 1}})
        self.write("first")
        self.eventually(lambda: self.control("GET")["held"]["dynamodb"] == 1)
        self.write("second")
        self.after(("second", 1), ("first", 1))
        self.assertEqual(self.counters("reordered"), 1)

    def test_reorder_keeps_the_order_of_one_item(self) -> None:
        self.set(events={"dynamodb": {"reorder": 1}})
        self.write("item", 1)
        self.eventually(lambda: self.control("GET")["held"]["dynamodb"] == 1)
        self.write("item", 2)
        self.after(("item", 1), ("item", 2))
        self.assertEqual(self.counters("reordered"), 0)

    def test_reorder_without_a_next_batch(self) -> None:
        self.set(events={"dynamodb": {"reorder": 1}})
        self.write("alone")
        self.after(("alone", 1))
        self.assertEqual(self.counters("reordered"), 0)

    def test_a_failed_invocation_is_tried_again(self) -> None:
        self.set(invalidator={"fail": 1})
        self.write("kept")
        self.eventually(lambda: self.counted("invalidator", "failed") >= 2)
        self.assertEqual(self.arrived()[1:], [])
        self.control("DELETE")
        self.after(("kept", 1))

    def test_down_does_not_reach_the_stream(self) -> None:
        keys = self.emulator.user(f"writer-{self.name}")
        self.set(down={"dynamodb": True}, exempt_access_keys=[keys["AWS_ACCESS_KEY_ID"]])
        self.emulator.client("dynamodb", keys).put_item(
            TableName=self.name, Item={"id": {"S": "item"}, "version": {"N": "1"}}
        )
        self.after(("item", 1))


if __name__ == "__main__":
    unittest.main()
