"""PartiQL statements, alone and in transactions, over the emulator's HTTP."""

from __future__ import annotations

import time
import unittest
import uuid
from typing import Any

from botocore.exceptions import ClientError

from launcher.layout import REPOSITORY
from tests.running_emulator import RunningEmulator

KEYS = ("PK", "SK")
UPDATE = ('UPDATE "Configurations" SET "configValue"=? SET "version"=? REMOVE "claim" '
          'WHERE "PK"=? AND "SK"=? AND "version"=? AND "configValue"=? AND "claim" IS MISSING')
INSERT = """INSERT INTO "{}" VALUE {{'PK': ?, 'SK': ?, 'version': ?, 'configValue': ?}}"""
DELETE = 'DELETE FROM "Configurations" WHERE "PK"=? AND "SK"=? AND "version"=?'
CONFIGURATIONS, HISTORY = "Configurations", "History"


def attribute(value: str | int | bytes) -> dict[str, Any]:
    return {"N": str(value)} if isinstance(value, int) else {"B": value} if isinstance(value, bytes) else {"S": value}


def statement(text: str, *parameters: str | int | bytes, **more: str) -> dict[str, Any]:
    given = {"Parameters": [attribute(one) for one in parameters]} if parameters else {}
    return {"Statement": text, **given, **more}


def item(pk: str, sk: str, version: int, value: str = "v", **more: str) -> dict[str, Any]:
    return {name: attribute(one) for name, one in {"PK": pk, "SK": sk, "version": version, "configValue": value, **more}.items()}


class PartiqlTest(unittest.TestCase):
    """Two tables with streams and a global index, and a partition of its own for each test."""

    emulator: RunningEmulator
    dynamodb: Any
    streams: Any

    def setUp(self) -> None:
        self.pk = f"TENANT#{uuid.uuid4().hex}"

    def insert(self, sk: str, version: int = 1, value: str = "v", table: str = CONFIGURATIONS) -> dict[str, Any]:
        return statement(INSERT.format(table), self.pk, sk, version, value)

    def update(self, sk: str, before: int, value: str = "v", **more: str) -> dict[str, Any]:
        return statement(UPDATE, f"{value}+", before + 1, self.pk, sk, before, value, **more)

    def execute(self, one: dict[str, Any]) -> Any:
        return self.dynamodb.execute_statement(**one)

    def transact(self, *statements: dict[str, Any], **more: str) -> Any:
        return self.dynamodb.execute_transaction(TransactStatements=list(statements), **more)

    def cancelled(self, *statements: dict[str, Any]) -> list[dict[str, Any]]:
        """The reasons for which the transaction is cancelled."""
        with self.assertRaises(self.dynamodb.exceptions.TransactionCanceledException) as caught:
            self.transact(*statements)
        reasons = caught.exception.response["CancellationReasons"]
        self.assertIn(f"[{', '.join(one['Code'] for one in reasons)}]", caught.exception.response["Error"]["Message"])
        return reasons

    def refused(self, code: str, call: Any, said: str = "") -> None:
        with self.assertRaises(ClientError) as caught:
            call()
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], code, error)
        self.assertIn(said, error["Message"])

    def found(self, sk: str, table: str = CONFIGURATIONS) -> dict[str, Any] | None:
        key = {"PK": attribute(self.pk), "SK": attribute(sk)}
        return self.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")

    def records(self, table: str = CONFIGURATIONS) -> list[tuple[str, dict | None, dict | None]]:
        """The event, the old and the new image of each stream record about this test's items."""
        arn = self.dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
        [shard] = self.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        at = self.streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        found = []
        # A page has a megabyte at most.
        while (page := self.streams.get_records(ShardIterator=at))["Records"]:
            found += [one for one in page["Records"] if one["dynamodb"]["Keys"]["PK"] == attribute(self.pk)]
            at = page["NextShardIterator"]
        return [(one["eventName"], one["dynamodb"].get("OldImage"), one["dynamodb"].get("NewImage")) for one in found]


def setUpModule() -> None:
    PartiqlTest.emulator = RunningEmulator()
    unittest.addModuleCleanup(PartiqlTest.emulator.stop)
    PartiqlTest.dynamodb = PartiqlTest.emulator.client("dynamodb")
    PartiqlTest.streams = PartiqlTest.emulator.client("dynamodbstreams")
    for table in (CONFIGURATIONS, HISTORY, "Large"):
        PartiqlTest.dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in zip(KEYS, ("HASH", "RANGE"))],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in (*KEYS, "by")],
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[{
                "IndexName": "ByPerson", "Projection": {"ProjectionType": "ALL"},
                "KeySchema": [{"AttributeName": "by", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}]}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
    Service.create_tables()


class Statements(PartiqlTest):
    """Each kind of statement, by ExecuteStatement and BatchExecuteStatement."""

    def test_an_insert_replaces_nothing(self) -> None:
        self.execute(self.insert("a"))
        self.refused("DuplicateItemException", lambda: self.execute(self.insert("a", 2)))
        self.assertEqual(self.found("a"), item(self.pk, "a", 1))
        self.assertEqual(self.records(), [("INSERT", None, item(self.pk, "a", 1))])

    def test_an_update_with_its_conditions(self) -> None:
        self.execute(self.insert("a"))
        self.execute(self.update("a", 1))
        self.assertEqual(self.found("a"), item(self.pk, "a", 2, "v+"))
        for stale in (self.update("a", 1, "v+"), self.update("a", 2, "v"), self.update("none", 2)):
            self.refused("ConditionalCheckFailedException", lambda: self.execute(stale))
        claim = statement('UPDATE "Configurations" SET "claim"=? WHERE "PK"=? AND "SK"=? AND "claim" IS MISSING', "me", self.pk, "a")
        self.execute(claim)
        for claimed in (claim, self.update("a", 2, "v+")):
            self.refused("ConditionalCheckFailedException", lambda: self.execute(claimed))
        self.execute(statement('UPDATE "Configurations" REMOVE "claim" WHERE "PK"=? AND "SK"=? AND "claim"=?', self.pk, "a", "me"))
        self.assertEqual(self.found("a"), item(self.pk, "a", 2, "v+"))
        first, second, third = item(self.pk, "a", 1), item(self.pk, "a", 2, "v+"), item(self.pk, "a", 2, "v+", claim="me")
        self.assertEqual(self.records(), [
            ("INSERT", None, first), ("MODIFY", first, second), ("MODIFY", second, third), ("MODIFY", third, second)])

    def test_numbers_are_compared_as_numbers(self) -> None:
        self.execute(self.insert("a", 10))
        update = 'UPDATE "Configurations" SET "configValue"=? WHERE "PK"=? AND "SK"=? AND "version">?'
        self.execute(statement(update, "w", self.pk, "a", 9))
        self.refused("ConditionalCheckFailedException", lambda: self.execute(statement(update, "w", self.pk, "a", 10)))
        with_zeros = {"Statement": update, "Parameters": [*map(attribute, ("x", self.pk, "a")), {"N": "9.00"}]}
        self.execute(with_zeros)

    def test_alternatives_beside_the_key(self) -> None:
        self.execute(self.insert("a"))
        update = ('UPDATE "Configurations" SET "claim"=? WHERE "PK"=? AND "SK"=? AND ("claim" IS MISSING OR "claim"<?)')
        self.execute(statement(update, "2", self.pk, "a", "1"))
        self.refused("ConditionalCheckFailedException", lambda: self.execute(statement(update, "3", self.pk, "a", "1")))
        self.execute(statement(update, "3", self.pk, "a", "3"))

    def test_a_delete_with_its_conditions(self) -> None:
        self.execute(self.insert("a"))
        self.refused("ConditionalCheckFailedException", lambda: self.execute(statement(DELETE, self.pk, "a", 2)))
        self.execute(statement(DELETE, self.pk, "a", 1))
        self.assertIsNone(self.found("a"))
        # What is not there is deleted, whatever the other conditions.
        self.execute(statement(DELETE, self.pk, "a", 1))
        self.assertEqual(self.records()[1:], [("REMOVE", item(self.pk, "a", 1), None)])

    def test_an_update_that_changes_nothing_leaves_no_record(self) -> None:
        self.execute(self.insert("a"))
        self.execute(statement('UPDATE "Configurations" SET "version"=? WHERE "PK"=? AND "SK"=?', 1, self.pk, "a"))
        self.assertEqual(len(self.records()), 1)

    def test_a_batch_answers_for_each_statement(self) -> None:
        self.execute(self.insert("a"))
        answers = self.dynamodb.batch_execute_statement(Statements=[self.insert("a"), self.insert("b"), self.update("a", 7)])["Responses"]
        self.assertEqual([one.get("Error", {}).get("Code") for one in answers], ["DuplicateItem", None, "ConditionalCheckFailed"])
        self.assertEqual([event for event, _, _ in self.records()], ["INSERT", "INSERT"])

    def test_an_index_has_what_was_inserted_and_updated(self) -> None:
        self.execute(statement("""INSERT INTO "Configurations" VALUE {'PK': ?, 'SK': ?, 'by': ?}""", self.pk, "a", self.pk))
        of = lambda who: self.dynamodb.query(
            TableName=CONFIGURATIONS, IndexName="ByPerson", KeyConditionExpression="#b = :b", ExpressionAttributeNames={"#b": "by"},
            ExpressionAttributeValues={":b": attribute(who)})["Count"]
        self.assertEqual(of(self.pk), 1)
        self.execute(statement('UPDATE "Configurations" SET "by"=? WHERE "PK"=? AND "SK"=?', f"{self.pk}+", self.pk, "a"))
        self.assertEqual((of(self.pk), of(f"{self.pk}+")), (0, 1))
        self.cancelled(statement('DELETE FROM "Configurations" WHERE "PK"=? AND "SK"=?', self.pk, "a"), self.update("none", 1))
        self.assertEqual(of(f"{self.pk}+"), 1)

    def test_what_no_table_takes(self) -> None:
        insert = """INSERT INTO "Configurations" VALUE {'PK': ?, 'SK': ?, 'by': ?}"""
        for bad, said in (
            (statement("""INSERT INTO "Configurations" VALUE {'PK': ?}""", self.pk), "Missing the key SK"),
            (statement(insert, self.pk, 1, "me"), "Type mismatch for key SK"),
            (statement(insert, self.pk, "a", 1), "Type mismatch for Index Key by"),
            (statement(insert, self.pk, "", "me"), "empty string value"),
            (statement(insert, self.pk, "a", "me", "more"), "Number of parameters"),
            (statement(insert, self.pk, "a"), "Number of parameters"),
            (statement(INSERT.format(CONFIGURATIONS), self.pk, "a", 1, "x" * (400 << 10)), "maximum allowed size"),
            (statement('UPDATE "Configurations" SET "SK"=? WHERE "PK"=? AND "SK"=?', "b", self.pk, "a"), "part of the key"),
            (statement('UPDATE "Configurations" SET "by"=? WHERE "PK"=? AND "SK"=?', 1, self.pk, "kept"), "Index Key by"),
            (statement('UPDATE "Configurations" SET "version"=? WHERE "PK"=?', 1, self.pk), "mandatory equality on all key attributes"),
            (statement('UPSERT "Configurations"'), "wasn't well formed"),
        ):
            with self.subTest(said):
                if "kept" in str(bad):
                    self.execute(self.insert("kept"))
                self.refused("ValidationException", lambda: self.execute(bad), said)
        self.assertEqual(self.found("kept"), item(self.pk, "kept", 1))
        self.assertEqual(len(self.records()), 1)

    def test_what_is_written_is_what_was_meant(self) -> None:
        nested = {"M": {"n": {"L": [{"BOOL": True}, {"NULL": True}]}}}
        parameters = [*map(attribute, (self.pk, "a")), {"N": "1.50"}, {"B": b"\x00\xff"}, nested]
        self.execute({"Statement": """INSERT INTO "Configurations" VALUE {'PK': ?, 'SK': ?, 'n': ?, 'b': ?, 'm': ?}""",
                      "Parameters": parameters})
        found = self.found("a")
        self.assertEqual((found["n"], found["b"], found["m"]), ({"N": "1.5"}, *parameters[3:]))
        update = 'UPDATE "Configurations" SET "c"=? WHERE "PK"=? AND "SK"=? AND "n"=? AND "b"=? AND "m"=?'
        self.execute({"Statement": update, "Parameters": [attribute("done"), *parameters]})


class Transactions(PartiqlTest):
    """All statements, or none."""

    def test_what_a_transaction_writes(self) -> None:
        self.execute(self.insert("a"))
        self.execute(self.insert("b"))
        answer = self.transact(
            self.update("a", 1), statement(DELETE, self.pk, "b", 1), self.insert("c"), self.insert("a#2", table=HISTORY))
        self.assertEqual(answer["Responses"], [])
        self.assertEqual([self.found(sk) for sk in "abc"], [item(self.pk, "a", 2, "v+"), None, item(self.pk, "c", 1)])
        self.assertEqual(self.records()[2:], [
            ("MODIFY", item(self.pk, "a", 1), item(self.pk, "a", 2, "v+")),
            ("REMOVE", item(self.pk, "b", 1), None),
            ("INSERT", None, item(self.pk, "c", 1)),
        ])
        self.assertEqual(self.records(HISTORY), [("INSERT", None, item(self.pk, "a#2", 1))])

    def test_each_statement_that_fails_has_its_reason(self) -> None:
        for sk in "abc":
            self.execute(self.insert(sk))
        reasons = self.cancelled(
            self.insert("new"), self.insert("a"), self.update("b", 7), self.update("c", 1), statement(DELETE, self.pk, "none", 1),
            statement(INSERT.format(HISTORY), self.pk, "", 1, "v"))
        self.assertEqual([one["Code"] for one in reasons], [
            "None", "DuplicateItem", "ConditionalCheckFailed", "None", "None", "ValidationError"])
        self.assertEqual(reasons[1]["Message"], "Duplicate primary key exists in table")
        self.assertEqual(reasons[2]["Message"], "The conditional request failed")

    def test_a_transaction_that_fails_leaves_nothing(self) -> None:
        for sk in "ab":
            self.execute(self.insert(sk))
        for failing in (self.insert("a", table=HISTORY), self.update("none", 1)):
            if failing["Statement"].startswith("INSERT"):
                self.execute(failing)
            self.cancelled(self.update("a", 1), statement(DELETE, self.pk, "b", 1), self.insert("c"), failing)
            self.cancelled(failing, self.update("a", 1), statement(DELETE, self.pk, "b", 1), self.insert("c"))
        self.assertEqual([self.found(sk) for sk in "abc"], [item(self.pk, "a", 1), item(self.pk, "b", 1), None])
        self.assertEqual((len(self.records()), len(self.records(HISTORY))), (2, 1))
        count = self.dynamodb.query(TableName=CONFIGURATIONS, KeyConditionExpression="PK = :p",
                                    ExpressionAttributeValues={":p": attribute(self.pk)})["Count"]
        self.assertEqual(count, 2)

    def test_a_condition_that_fails_shows_the_item_if_asked(self) -> None:
        self.execute(self.insert("a"))
        [reason] = self.cancelled(self.update("a", 7, ReturnValuesOnConditionCheckFailure="ALL_OLD"))
        self.assertEqual((reason["Code"], reason["Item"]), ("ConditionalCheckFailed", item(self.pk, "a", 1)))
        [reason] = self.cancelled(self.update("a", 7))
        self.assertNotIn("Item", reason)

    def test_exists_is_a_condition_beside_writes(self) -> None:
        self.execute(self.insert("a"))
        exists = 'EXISTS(SELECT * FROM "Configurations" WHERE "PK"=? AND "SK"=? AND "version"=?)'
        self.transact(statement(exists, self.pk, "a", 1), self.insert("b"))
        reasons = self.cancelled(statement(exists, self.pk, "a", 2), self.insert("c"))
        self.assertEqual([one["Code"] for one in reasons], ["ConditionalCheckFailed", "None"])
        self.assertEqual((self.found("b") is None, self.found("c")), (False, None))

    def test_reads_answer_in_their_order(self) -> None:
        self.execute(self.insert("a"))
        select = 'SELECT * FROM "Configurations" WHERE "PK"=? AND "SK"=?'
        found = self.transact(statement(select, self.pk, "none"), statement(select, self.pk, "a"))["Responses"]
        self.assertEqual(found, [{}, {"Item": item(self.pk, "a", 1)}])

    def test_what_is_no_transaction(self) -> None:
        self.execute(self.insert("a"))
        select = 'SELECT * FROM "Configurations" WHERE "PK"=? AND "SK"=?'
        for statements, said in (
            ([self.update("a", 1), statement(DELETE, self.pk, "a", 1)], "multiple operations on one item"),
            ([self.insert("b"), self.insert("b")], "multiple operations on one item"),
            ([statement(select, self.pk, "a"), self.insert("b")], "either read statements or write statements"),
            ([self.insert("b"), statement('UPDATE "Configurations" SET "version"=? WHERE "PK"=?', 1, self.pk)], "TransactStatements[1]"),
            ([self.insert("b"), statement("UPSERT")], "TransactStatements[1]"),
            ([self.insert("b"), statement(f"{DELETE} RETURNING ALL OLD *", self.pk, "a", 1)], "RETURNING"),
            ([self.insert(str(number)) for number in range(101)], ""),
        ):
            with self.subTest(said):
                self.refused("ValidationException", lambda: self.transact(*statements), said)
        self.refused("ResourceNotFoundException", lambda: self.transact(self.insert("b"), self.insert("b", table="Absent")))
        self.assertEqual((self.found("a"), self.found("b")), (item(self.pk, "a", 1), None))

    def test_a_token_is_for_one_transaction(self) -> None:
        token = uuid.uuid4().hex
        writes = [self.insert("a"), self.insert("b")]
        for _ in range(2):
            self.transact(*writes, ClientRequestToken=token)
        self.assertEqual(len(self.records()), 2)
        self.refused("IdempotentParameterMismatchException", lambda: self.transact(self.insert("c"), ClientRequestToken=token))

    def test_what_a_transaction_consumes(self) -> None:
        writes = [self.insert("a"), self.insert("b", value="x" * 1500)]
        consumed = self.transact(*writes, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]
        self.assertEqual(consumed, [{"TableName": CONFIGURATIONS, "CapacityUnits": 6.0}])

    def test_a_large_table_is_as_fast_as_a_small_one(self) -> None:
        def milliseconds(name: str) -> float:
            """The median of transactions, half of which fail."""
            spent = []
            for number in range(20):
                began = time.perf_counter()
                self.transact(self.insert(f"{name}#{number}", table="Large"), self.insert(f"{name}##{number}", table=HISTORY))
                self.cancelled(self.insert(f"{name}#{number}", table="Large"), self.insert(f"{name}###{number}", table=HISTORY))
                spent.append((time.perf_counter() - began) * 1000)
            return sorted(spent)[len(spent) // 2]

        small = milliseconds("small")
        for start in range(0, 20_000, 25):
            self.dynamodb.batch_write_item(RequestItems={"Large": [
                {"PutRequest": {"Item": item(f"{self.pk}#{start}", str(start + number), 1)}} for number in range(25)]})
        large = milliseconds("large")
        self.assertLess(large, 3 * small + 20, f"{large:.1f} ms with 20,000 items, {small:.1f} ms with few")


# === what config-service sends ===


def insert_of(table: str, new: dict[str, Any]) -> dict[str, Any]:
    """As `Statement::insert` of crates/stores/src/partiql.rs writes it."""
    names = sorted(new)
    fields = ", ".join("'" + name.replace("'", "''") + "': ?" for name in names)
    return {"Statement": f"INSERT INTO {quoted(table)} VALUE {{{fields}}}", "Parameters": [new[name] for name in names]}


def update_of(table: str, values: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any]:
    """As `Statement::update` writes it."""
    assignments = "".join(f" SET {quoted(name)} = ?" for name in values)
    return where(f"UPDATE {quoted(table)}{assignments}", list(values.values()), condition)


def delete_of(table: str, condition: dict[str, Any]) -> dict[str, Any]:
    """As `Statement::delete` writes it."""
    return where(f"DELETE FROM {quoted(table)}", [], condition)


def where(text: str, parameters: list[Any], condition: dict[str, Any]) -> dict[str, Any]:
    """As `Where` writes it: an attribute has this value, or is not there (`None`)."""
    held = [f"{quoted(name)} IS MISSING" if value is None else f"{quoted(name)} = ?" for name, value in condition.items()]
    compared = [value for value in condition.values() if value is not None]
    return {"Statement": f"{text} WHERE {' AND '.join(held)}", "Parameters": parameters + compared}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def texts(**values: str) -> dict[str, Any]:
    return {name: {"S": value} for name, value in values.items()}


class Service(PartiqlTest):
    """The tables of a deployment, and the statements and queries of crates/stores/src (`partiql.rs`, `dynamodb/writes.rs`,
    `history.rs`, `journal.rs`)."""

    ITEMS, CHANGES, ENTRIES = "TenantConfigurations-test", "TenantConfigurations-test.Journal", "TenantConfigurations-test.History"
    PROJECTED = ("key", "version", "operation", "by", "role", "requestId", "note", "size", "hash", "contentType", "source")
    NOW = 1_767_323_045_123

    @classmethod
    def create_tables(cls) -> None:
        """As terraform/modules/storage has them."""
        by_time = {
            "IndexName": "ByTime", "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(cls.PROJECTED)},
            "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}]}
        stream = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}
        for table, more in {cls.ITEMS: stream, cls.CHANGES: {}, cls.ENTRIES: {"GlobalSecondaryIndexes": [by_time]}}.items():
            names = (*KEYS, "at") if "GlobalSecondaryIndexes" in more else KEYS
            cls.dynamodb.create_table(
                TableName=table, BillingMode="PAY_PER_REQUEST", **more,
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in zip(KEYS, ("HASH", "RANGE"))],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names])

    def place(self, sk: str) -> dict[str, Any]:
        return texts(PK=self.pk, SK=sk)

    def unchanged(self, sk: str, old: dict[str, Any]) -> dict[str, Any]:
        """The condition of a write: what is there is what was read."""
        return self.place(sk) | {name: old.get(name) for name in ("version", "configValue", "assignedVersion", "claim")}

    def value(self, version: int, value: str) -> dict[str, Any]:
        number = {"N": str(version)}
        return {"configValue": {"S": value}, "version": number, "assignedVersion": number,
                **texts(lastModified="2026-01-02T03:04:05.123Z", contentType="application/json", modifiedBy="alice")}

    def journal(self, at: int, change: str, kind: str = "written") -> dict[str, Any]:
        return insert_of(self.CHANGES, texts(
            PK=f"{at // 60_000}#7", SK=f"{at:013}#{change}", kind=kind, backend="dynamodb", partition=self.pk, sort="CONFIG#x",
        ) | {"incarnation": {"N": "0"}, "version": {"N": str(at)}, "expiresAt": {"N": str(at // 1000 + 3600)}})

    def entry(self, at: int, change: str, key: str = "tenant_config_x", value: str | None = "1", **more: str) -> dict[str, Any]:
        found = texts(
            PK=self.pk, SK=f"{key}#{at:013}#{change}", at=f"{at:013}#{change}", key=key, change=change, operation="put", by="alice",
            role="writer", requestId="r1", note="why", hash="ab", contentType="application/json", source="service") | texts(**more)
        numbers = {"version": {"N": str(at)}, "size": {"N": "1"}, "expiresAt": {"N": str(at // 1000 + 90 * 86_400)}}
        return found | numbers | ({} if value is None else texts(value=value))

    def write(self, sk: str, old: dict[str, Any], at: int, value: str) -> tuple[dict[str, Any], ...]:
        """The statements of one write, with its entries."""
        change = uuid.uuid4().hex
        return (update_of(self.ITEMS, self.value(at, value), self.unchanged(sk, old)), self.journal(at, change),
                insert_of(self.ENTRIES, self.entry(at, change, value=value)))

    def query(self, condition: str, values: dict[str, str], **more: Any) -> Any:
        values = {f":{name}": {"S": value} for name, value in ({"pk": self.pk} | values).items()}
        values |= more.pop("ExpressionAttributeValues", {})
        return self.dynamodb.query(TableName=self.ENTRIES, KeyConditionExpression=condition, ExpressionAttributeValues=values, **more)

    def entries(self) -> int:
        return self.query("PK = :pk", {}, ConsistentRead=True)["Count"]


class ServiceStatements(Service):
    """Writes of config-service."""

    def test_statements_are_those_of_the_service(self) -> None:
        source = (REPOSITORY / "crates/stores/src/partiql.rs").read_text()
        condition = texts(PK="TENANT#A", SK="x", version="1") | {"claim": None}
        for one in (
            insert_of("T", texts(SK="x", PK="TENANT#A")),
            update_of("T", texts(configValue="2"), condition),
        ):
            self.assertIn(f'r#"{one["Statement"]}"#', source)
        self.assertTrue(delete_of('T"x', condition)["Statement"].startswith('DELETE FROM "T""x" WHERE "PK" = ?'))
        self.assertIn('r#"DELETE FROM "T""x" WHERE "PK" = ?"#', source)

    def test_a_new_key_is_claimed_and_then_written(self) -> None:
        stub = self.place("CONFIG#x") | texts(claim="c1")
        claim = insert_of(self.ITEMS, stub)
        self.execute(claim)
        self.refused("DuplicateItemException", lambda: self.execute(claim))
        self.assertEqual(self.found("CONFIG#x", self.ITEMS), stub)
        # Who has read another claim, or none, is overtaken.
        for other in (stub | texts(claim="c2"), {}):
            reasons = self.cancelled(*self.write("CONFIG#x", other, self.NOW, "1"))
            self.assertEqual([one["Code"] for one in reasons], ["ConditionalCheckFailed", "None", "None"])
        self.transact(*self.write("CONFIG#x", stub, self.NOW, "1"))
        written = stub | self.value(self.NOW, "1")
        self.assertEqual(self.found("CONFIG#x", self.ITEMS), written)
        self.assertEqual(self.records(self.ITEMS), [("INSERT", None, stub), ("MODIFY", stub, written)])
        self.transact(*self.write("CONFIG#x", written, self.NOW + 1, "2"))
        self.cancelled(*self.write("CONFIG#x", written, self.NOW + 2, "3"))
        self.assertEqual(self.found("CONFIG#x", self.ITEMS), stub | self.value(self.NOW + 1, "2"))
        self.assertEqual((len(self.records(self.ITEMS)), self.entries()), (3, 2))

    def test_an_edit_by_hand_is_claimed_as_it_was_read(self) -> None:
        """Without a version, with one that is a text, and with values of other types."""
        for number, edited in enumerate((
            {"configValue": {"S": "1"}},
            {"configValue": {"S": "it's \"so\" -- ?"}, "version": {"S": "7"}},
            {"configValue": {"M": {"a": {"L": [{"N": "1.50"}, {"NULL": True}]}, "b": {"BOOL": False}}}, "version": {"N": "7"}},
            {"configValue": {"SS": ["x", "y"]}, "version": {"N": "7.0"}, "assignedVersion": {"N": "6"}},
            {"configValue": {"B": b"\x00\xff"}},
        )):
            with self.subTest(edited):
                sk = f"CONFIG#{number}"
                self.dynamodb.put_item(TableName=self.ITEMS, Item=self.place(sk) | edited)
                old = self.found(sk, self.ITEMS)
                other = old | {"version": {"S": "8"}}
                self.refused("ConditionalCheckFailedException", lambda: self.execute(
                    update_of(self.ITEMS, texts(claim="c"), self.unchanged(sk, other))))
                claim = update_of(self.ITEMS, texts(claim="c"), self.unchanged(sk, old))
                self.execute(claim)
                self.refused("ConditionalCheckFailedException", lambda: self.execute(claim))
                self.assertEqual(self.found(sk, self.ITEMS), old | texts(claim="c"))
                self.transact(*self.write(sk, old | texts(claim="c"), self.NOW, "2"))
                self.assertEqual(self.found(sk, self.ITEMS), old | texts(claim="c") | self.value(self.NOW, "2"))

    def test_a_set_has_no_order(self) -> None:
        self.dynamodb.put_item(TableName=self.ITEMS, Item=self.place("CONFIG#x") | {"configValue": {"SS": ["x", "y"]}})
        read = {"configValue": {"SS": ["y", "x"]}}
        self.execute(update_of(self.ITEMS, texts(claim="c"), self.unchanged("CONFIG#x", read)))

    def test_one_deletion_of_two_takes_effect(self) -> None:
        """`DELETE` of what is gone succeeds. The mark of the deletion, which both insert, is there once."""
        stub = self.place("CONFIG#x") | texts(claim="c1")
        self.execute(insert_of(self.ITEMS, stub))
        self.transact(*self.write("CONFIG#x", stub, self.NOW, "1"))
        old, change = self.found("CONFIG#x", self.ITEMS), uuid.uuid4().hex
        mark = insert_of(self.CHANGES, texts(PK="deletions#7", SK=change) | {"expiresAt": {"N": str(self.NOW // 1000 + 3600)}})

        def deletion(at: int, *more: dict[str, Any]) -> tuple[dict[str, Any], ...]:
            return (delete_of(self.ITEMS, self.unchanged("CONFIG#x", old)), self.journal(at, change, "removed"), *more,
                    insert_of(self.ENTRIES, self.entry(at, change, value=None, operation="delete")))

        self.transact(*deletion(self.NOW + 1, mark))
        self.assertIsNone(self.found("CONFIG#x", self.ITEMS))
        reasons = self.cancelled(*deletion(self.NOW + 2, mark))
        self.assertEqual([one["Code"] for one in reasons], ["None", "None", "DuplicateItem", "None"])
        self.assertEqual((self.entries(), len(self.records(self.ITEMS))), (2, 3))
        self.transact(*deletion(self.NOW + 2))

    def test_an_entry_past_the_service_is_inserted_once(self) -> None:
        entry = insert_of(self.ENTRIES, self.entry(self.NOW, "c1", source="past-service"))
        self.execute(entry)
        self.refused("DuplicateItemException", lambda: self.execute(entry))
        self.execute(insert_of(self.ENTRIES, self.entry(self.NOW, "c1", key="tenant_config_y")))
        self.assertEqual(self.entries(), 2)

    def test_values_are_parameters_alone(self) -> None:
        hostile = """x' OR "PK" = '1' -- ? /* \\ ü€😀"""
        new = self.place(f"CONFIG#{hostile}") | {"it's": {"S": hostile}, 'say "x"': {"S": hostile}, "a.b[0]": {"N": "1"}}
        self.execute(insert_of(self.ITEMS, new))
        self.assertEqual(self.found(f"CONFIG#{hostile}", self.ITEMS), new)
        held = {name: new[name] for name in ("PK", "SK", "it's", 'say "x"', "a.b[0]")}
        self.execute(update_of(self.ITEMS, {"it's": {"S": "2"}}, held))
        self.assertEqual(self.found(f"CONFIG#{hostile}", self.ITEMS), new | {"it's": {"S": "2"}})
        self.execute(delete_of(self.ITEMS, held | {"it's": {"S": "2"}, "none": None}))
        self.assertIsNone(self.found(f"CONFIG#{hostile}", self.ITEMS))

    def test_values_of_256_kibibytes(self) -> None:
        """A write compares with the old value, and has the new one twice."""
        stub = self.place("CONFIG#x") | texts(claim="c1")
        self.execute(insert_of(self.ITEMS, stub))
        old, values = stub, ["\n" * (256 << 10), "€" * ((256 << 10) // 3), "😀" * (64 << 10)]
        for at, value in enumerate(values, self.NOW):
            self.transact(*self.write("CONFIG#x", old, at, value))
            old = self.found("CONFIG#x", self.ITEMS)
            self.assertEqual(old["configValue"]["S"], value)
        found = self.query("PK = :pk", {}, ConsistentRead=True)["Items"]
        self.assertEqual([one["value"]["S"] for one in found], values)
        self.refused("ValidationException", lambda: self.execute(
            insert_of(self.ENTRIES, self.entry(self.NOW, "c", value="x" * (400 << 10)))), "maximum allowed size")

    def test_the_items_of_a_transaction_have_4_megabytes(self) -> None:
        """What conditions compare with does not count."""
        value, places = "x" * (256 << 10), [f"CONFIG#{number}" for number in range(8)]
        olds = {sk: {"configValue": {"S": "y" * (256 << 10)}, "version": {"N": "7"}} for sk in places}
        for sk, old in olds.items():
            self.dynamodb.put_item(TableName=self.ITEMS, Item=self.place(sk) | old)
        changes = [self.write(sk, olds[sk], self.NOW, value) for sk in places]
        flat = lambda some: [one for change in some for one in change]
        self.refused("ValidationException", lambda: self.transact(*flat(changes)), "4MB")
        self.assertEqual((self.entries(), self.found(places[0], self.ITEMS)), (0, self.place(places[0]) | olds[places[0]]))
        self.transact(*flat(changes[:7]))
        self.assertEqual(self.found(places[6], self.ITEMS), self.place(places[6]) | self.value(self.NOW, value))
        self.assertEqual([event for event, _, _ in self.records(self.ITEMS)], ["INSERT"] * 8 + ["MODIFY"] * 7)


class ServiceQueries(Service):
    """Reads of the history."""

    BETWEEN = "PK = :pk AND SK BETWEEN :from AND :to"
    BY_TIME = {"IndexName": "ByTime", "ExpressionAttributeNames": {"#at": "at"}, "ScanIndexForward": False}

    def setUp(self) -> None:
        super().setUp()
        # Two keys, one of which begins as the other; two changes of one millisecond.
        self.x, self.xy = "tenant_config_x", "tenant_config_x-y"
        changes = [(self.x, 0, "a0"), (self.x, 1, "b0"), (self.xy, 1, "c0"), (self.x, 1, "d0"), (self.xy, 2, "e0")]
        entries = [self.entry(self.NOW + after, change, key=key) for key, after, change in changes]
        self.transact(*(insert_of(self.ENTRIES, entry) for entry in entries))

    def span(self, key: str, since: int = 0, until: int = 9_999_999_999_999) -> dict[str, str]:
        """As `sort_range` of history.rs."""
        return {"from": f"{key}#{since:013}", "to": f"{key}#{until:013}#~"}

    def found_changes(self, answer: Any) -> list[str]:
        return [one["change"]["S"] for one in answer["Items"]]

    def test_a_key_newest_first_without_its_values(self) -> None:
        newest = {"ConsistentRead": True, "ScanIndexForward": False}
        self.assertEqual(self.found_changes(self.query(self.BETWEEN, self.span(self.x), **newest)), ["d0", "b0", "a0"])
        self.assertEqual(self.found_changes(self.query(self.BETWEEN, self.span(self.xy), **newest)), ["e0", "c0"])
        window = self.span(self.x, self.NOW + 1, self.NOW + 1)
        self.assertEqual(self.found_changes(self.query(self.BETWEEN, window, **newest)), ["d0", "b0"])
        names = ("SK", "key", "at", "version", "previous", "operation", "by", "role", "requestId", "note", "size", "hash", "contentType")
        aliases = {f"#a{number}": name for number, name in enumerate(names)}
        [first] = self.query(self.BETWEEN, self.span(self.x), Limit=1, ProjectionExpression=", ".join(aliases),
                             ExpressionAttributeNames=aliases, **newest)["Items"]
        whole = self.entry(self.NOW + 1, "d0")
        self.assertEqual(first, {name: whole[name] for name in names if name in whole})

    def test_a_page_goes_on_before_its_cursor(self) -> None:
        newest = {"ConsistentRead": True, "ScanIndexForward": False, "Limit": 2}
        page = self.query(self.BETWEEN, self.span(self.x), **newest)
        self.assertEqual(self.found_changes(page), ["d0", "b0"])
        last = page["LastEvaluatedKey"]
        self.assertEqual(last, {name: page["Items"][1][name] for name in KEYS})
        # As `before` of history.rs.
        cursor = last["SK"]["S"][:-1] + chr(ord(last["SK"]["S"][-1]) - 1) + "~"
        page = self.query(self.BETWEEN, self.span(self.x) | {"to": cursor}, **newest)
        self.assertEqual((self.found_changes(page), "LastEvaluatedKey" in page), (["a0"], False))

    def test_a_range_must_not_end_before_it_begins(self) -> None:
        for more in ({}, self.BY_TIME):
            condition = "PK = :pk AND #at BETWEEN :from AND :to" if more else self.BETWEEN
            self.refused("ValidationException", lambda: self.query(condition, {"from": "b", "to": "a"}, **more), "BETWEEN")

    def test_whether_a_change_has_its_entry(self) -> None:
        for name, value, wanted in (("change", "b0", 1), ("change", "c0", 0), ("operation", "put", 3), ("operation", "delete", 0)):
            with self.subTest(name=name, value=value):
                answer = self.query(
                    self.BETWEEN, self.span(self.x), ConsistentRead=True, FilterExpression="#known = :known",
                    ExpressionAttributeNames={"#known": name}, ExpressionAttributeValues={":known": {"S": value}},
                    ProjectionExpression="PK")
                self.assertEqual((answer["Items"], answer["ScannedCount"]), ([texts(PK=self.pk)] * wanted, 3))

    def test_a_filter_comes_after_the_limit(self) -> None:
        answer = self.query(
            self.BETWEEN, self.span(self.x), Limit=1, FilterExpression="#known = :known", ExpressionAttributeNames={"#known": "change"},
            ExpressionAttributeValues={":known": {"S": "d0"}})
        self.assertEqual((answer["Items"], answer["LastEvaluatedKey"]["SK"]["S"]), ([], f"{self.x}#{self.NOW:013}#a0"))

    def test_a_tenant_by_time_without_the_values(self) -> None:
        condition, everything = "PK = :pk AND #at BETWEEN :from AND :to", {"from": f"{0:013}", "to": f"{9_999_999_999_999}#~"}
        of = lambda answer: [one["at"]["S"].partition("#")[2] for one in answer["Items"]]
        answer = self.query(condition, everything, **self.BY_TIME)
        self.assertEqual(of(answer), ["e0", "d0", "c0", "b0", "a0"])
        whole = self.entry(self.NOW + 2, "e0", key=self.xy)
        self.assertEqual(answer["Items"][0], {name: whole[name] for name in ("PK", "SK", "at", *self.PROJECTED)})
        page = self.query(condition, everything, Limit=2, **self.BY_TIME)
        self.assertEqual((of(page), page["LastEvaluatedKey"]), (["e0", "d0"], {
            name: page["Items"][1][name] for name in ("PK", "SK", "at")}))
        window = {"from": f"{self.NOW + 1:013}", "to": f"{self.NOW + 1:013}#~"}
        self.assertEqual(of(self.query(condition, window, **self.BY_TIME)), ["d0", "c0", "b0"])
        self.refused("ValidationException", lambda: self.query(condition, everything, ConsistentRead=True, **self.BY_TIME), "onsistent")

    def test_keys_that_begin_so_from_a_key_that_is_not_there(self) -> None:
        condition, prefix = "PK = :pk AND begins_with(SK, :prefix)", {"prefix": "tenant_config_"}
        behind = lambda key: self.place(f"{key}#~")
        of = lambda **more: self.found_changes(self.query(condition, prefix, ConsistentRead=True, **more))
        self.assertEqual(of(), ["a0", "b0", "d0", "c0", "e0"])
        self.assertEqual(of(ExclusiveStartKey=behind(self.x)), ["c0", "e0"])
        self.assertEqual(of(ExclusiveStartKey=behind("tenant_config_a")), ["a0", "b0", "d0", "c0", "e0"])
        self.assertEqual(of(ExclusiveStartKey=behind(self.xy)), [])
        self.refused("ValidationException", lambda: of(ExclusiveStartKey=behind("param_config_x")), "starting key")
        self.refused("ValidationException", lambda: of(ExclusiveStartKey=texts(PK=self.pk)), "starting key")

    def test_a_page_has_a_megabyte(self) -> None:
        """Of the table with the values; the index has none."""
        for number in range(5):
            large = self.entry(self.NOW + number, f"{number}f", key="tenant_config_z", value="x" * (256 << 10))
            self.execute(insert_of(self.ENTRIES, large))
        condition, prefix = "PK = :pk AND begins_with(SK, :prefix)", {"prefix": "tenant_config_z"}
        page = self.query(condition, prefix, ConsistentRead=True)
        rest = self.query(condition, prefix, ConsistentRead=True, ExclusiveStartKey=page["LastEvaluatedKey"])
        self.assertEqual(self.found_changes(page) + self.found_changes(rest), [f"{number}f" for number in range(5)])
        self.assertNotIn("LastEvaluatedKey", rest)
        # A projection saves the answer, not the page.
        alone = self.query(condition, prefix, ProjectionExpression="PK")
        self.assertEqual(alone["Count"], page["Count"])
        everything = {"from": f"{0:013}", "to": f"{9_999_999_999_999}#~"}
        answer = self.query("PK = :pk AND #at BETWEEN :from AND :to", everything, **self.BY_TIME)
        self.assertEqual((answer["Count"], "LastEvaluatedKey" in answer), (10, False))


if __name__ == "__main__":
    unittest.main()
