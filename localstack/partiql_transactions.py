"""The emulator extension: PartiQL statements write to a table as DynamoDB has it.

MiniStack's statements leave no stream records; its INSERT takes items without keys, and its UPDATE changes keys. Its
ExecuteTransaction copies whole tables (0.6 s with 20,000 items), takes several statements about one item, stops at the first
statement that fails, and gives reasons that AWS does not have, such as `DuplicateItemException`. Here a transaction notes what
each statement replaced. It puts that back if one of them fails, else it emits their stream records
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.multiplestatements.transactions.html).

Not emulated: the capacity that the repetition of a transaction with the same token consumes.

It hooks private functions of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import contextvars
import copy
import functools
import json
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Callable

import hooks

Answer = tuple[int, dict[str, str], bytes]

HOOKED = {
    "_execute_transaction": ["data"],
    "_parse_partiql": ["statement", "parameters"],
    "_partiql_insert": ["table", "parsed"],
    "_partiql_update": ["table", "parsed", "data"],
    "_partiql_delete": ["table", "parsed", "data"],
    "_pq_conditions": ["where"],
}
CALLED = {
    "_capacity_kb": ["nbytes"],
    "_emit_stream_event": ["table_name", "event_name", "old_item", "new_item", "replicate"],
    "_extract_key_val": ["attr"],
    "_item_size_bytes": ["item"],
    "_key_attribute_update_error": ["table", "updated_attrs"],
    "_key_type_mismatch_reason": ["table", "attrs"],
    "_partiql_key_target": ["table", "parsed"],
    "_partiql_select": ["table", "parsed"],
    "_pq_has_call": ["where"],
    "_pq_select_key_error": ["table", "parsed"],
    "_remove_item": ["table", "pk_val", "sk_val"],
    "_set_item": ["table", "pk_val", "sk_val", "item"],
    "_txn_token_lookup": ["crt"],
    "_txn_token_store": ["crt", "entry"],
    "_validate_index_key_values": ["table", "item", "update_expr"],
    "_validate_item": ["item", "pk_name", "sk_name", "size_msg"],
}
MOST_STATEMENTS = 100
MOST_BYTES = 4 << 20
"""Of all items of a transaction."""
READS = {"SELECT"}
"""EXISTS goes with writes, too."""


@dataclass(frozen=True)
class Change:
    """What one statement did to one item."""

    table: dict[str, Any]
    key: tuple[str, str]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class Statement:
    """A statement of a transaction, on one item."""

    request: dict[str, Any]
    parsed: dict[str, Any]
    table: dict[str, Any]
    key: tuple[str, str]

    @property
    def operation(self) -> str:
        return self.parsed["op"]

    @property
    def item(self) -> dict[str, Any] | None:
        """The item as it is now."""
        return _item(self.table, self.key)


_changes: contextvars.ContextVar[list[Change] | None] = contextvars.ContextVar("partiql_changes", default=None)
"""The changes of the transaction that runs, if one does."""


class Refused(Exception):
    """A transaction that is answered with an error of its own, and has written nothing."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def verify(dynamodb: ModuleType, keywords: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked or called is as this module knows it."""
    for name, parameters in (HOOKED | CALLED).items():
        hooks.require_function(dynamodb, name, parameters)
    hooks.require_function(keywords, "_tokenize", ["text"])


def install() -> None:
    """Hooks the installed MiniStack."""
    from ministack.services import _dynamodb_keywords, dynamodb

    hooks.require_version(hooks.installed_version())
    verify(dynamodb, _dynamodb_keywords)
    dynamodb._pq_conditions = _beside_alternatives(dynamodb._pq_conditions)
    dynamodb._parse_partiql = _counting_parameters(_dynamodb_keywords, dynamodb._parse_partiql)
    writes = Writes(dynamodb)
    dynamodb._partiql_insert = writes.insert(dynamodb._partiql_insert)
    dynamodb._partiql_update = writes.update(dynamodb._partiql_update)
    dynamodb._partiql_delete = writes.delete(dynamodb._partiql_delete)
    dynamodb._execute_transaction = Transactions(dynamodb, writes).execute


def _counting_parameters(keywords: ModuleType, original: Callable[..., dict]) -> Callable[..., dict]:
    """MiniStack refuses too few parameters, and takes too many."""

    @functools.wraps(original)
    def parse_partiql(statement: str, parameters: list[dict] | None) -> dict:
        parsed = original(statement, parameters)
        if sum(token[:2] == ("op", "?") for token in keywords._tokenize(statement)) != len(parameters or []):
            raise keywords.PartiqlError("Number of parameters in request and statement don't match.", statement_level=False)
        return parsed

    return parse_partiql


def _beside_alternatives(original: Callable[[tuple | None], list]) -> Callable[[tuple | None], list]:
    """MiniStack finds no key in a WHERE that has alternatives beside it: `"PK"=? AND ("claim" IS MISSING OR "until"<?)`."""

    @functools.wraps(original)
    def pq_conditions(where: tuple | None) -> list:
        kept = [node for node in _conjuncts(where) if node[0] != "or"]
        return original(functools.reduce(lambda left, right: ("and", left, right), kept) if kept else None)

    return pq_conditions


def _conjuncts(where: tuple | None) -> list[tuple]:
    if where is None:
        return []
    return [*_conjuncts(where[1]), *_conjuncts(where[2])] if where[0] == "and" else [where]


def _item(table: dict[str, Any], key: tuple[str, str]) -> dict[str, Any] | None:
    return table["items"].get(key[0], {}).get(key[1])


# === one statement ===


class Writes:
    """MiniStack's statements with the checks that it leaves out, and with stream records."""

    def __init__(self, dynamodb: ModuleType) -> None:
        self._dynamodb = dynamodb

    def insert(self, original: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(original)
        def partiql_insert(table: dict, parsed: dict) -> Answer:
            # A copy: numbers get their canonical form below, and the request stays as it is.
            item = copy.deepcopy(parsed.get("item") or {})
            item = item["M"] if set(item) == {"M"} else item
            refusal = self._bad_item(table, item)
            if refusal:
                return refusal
            return self._noted(table, self.key_of_item(table, item), lambda: original(table, {**parsed, "item": item}))

        return partiql_insert

    def update(self, original: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(original)
        def partiql_update(table: dict, parsed: dict, data: dict | None = None) -> Answer:
            paths = [*(path for path, _ in parsed.get("assignments") or []), *(parsed.get("removes") or [])]
            refusal = self._dynamodb._key_attribute_update_error(table, [tuple(path) for path in paths])
            if refusal:
                return refusal
            parsed = {**parsed, "assignments": copy.deepcopy(parsed.get("assignments"))}
            key, refusal = self.key_of_where(table, parsed)
            return refusal or self._noted(table, key, lambda: original(table, parsed, data), self._bad_update)

        return partiql_update

    def delete(self, original: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(original)
        def partiql_delete(table: dict, parsed: dict, data: dict | None = None) -> Answer:
            key, refusal = self.key_of_where(table, parsed)
            return refusal or self._noted(table, key, lambda: original(table, parsed, data))

        return partiql_delete

    def key_of_item(self, table: dict, item: dict) -> tuple[str, str]:
        """The key under which MiniStack keeps this item."""
        value = self._dynamodb._extract_key_val
        sort = value(item.get(table["sk_name"])) if table["sk_name"] else "__no_sort__"
        return value(item.get(table["pk_name"])), sort

    def key_of_where(self, table: dict, parsed: dict) -> tuple[tuple[str, str], Answer | None]:
        """The key that a WHERE names, or what is wrong with it."""
        partition, sort, _, refusal = self._dynamodb._partiql_key_target(table, parsed)
        return (partition, sort), refusal

    def emit(self, change: Change) -> None:
        """The stream record of a change. DynamoDB has none of an item that stays the same."""
        event = "INSERT" if change.before is None else "REMOVE" if change.after is None else "MODIFY"
        self._dynamodb._emit_stream_event(change.table["TableName"], event, change.before, change.after)

    def undo(self, change: Change) -> None:
        """Puts back what was there before."""
        if change.before is None:
            self._dynamodb._remove_item(change.table, *change.key)
        else:
            self._dynamodb._set_item(change.table, *change.key, change.before)

    def _noted(
        self, table: dict, key: tuple[str, str], write: Callable[[], Answer], bad: Callable[[dict, dict], Answer | None] | None = None,
    ) -> Answer:
        before = _item(table, key)
        answer = write()
        after = _item(table, key)
        if answer[0] != 200 or after is before:
            return answer
        change = Change(table, key, before, after)
        refusal = bad(table, after) if bad and after is not None else None
        if refusal:
            self.undo(change)
            return refusal
        changes = _changes.get()
        if changes is None:
            self.emit(change)
        else:
            changes.append(change)
        return answer

    def _bad_item(self, table: dict, item: dict) -> Answer | None:
        """The checks of PutItem."""
        for name in (table["pk_name"], table["sk_name"]):
            if name and name not in item:
                return self._invalid(f"One or more parameter values were invalid: Missing the key {name} in the item")
        mismatch = self._dynamodb._key_type_mismatch_reason(table, item)
        if mismatch:
            return self._invalid(mismatch)
        return (self._dynamodb._validate_item(item, table["pk_name"], table["sk_name"])
                or self._dynamodb._validate_index_key_values(table, item))

    def _bad_update(self, table: dict, item: dict) -> Answer | None:
        """The checks of UpdateItem."""
        return (self._dynamodb._validate_item(item, table["pk_name"], table["sk_name"])
                or self._dynamodb._validate_index_key_values(table, item, update_expr=True))

    @staticmethod
    def _invalid(message: str) -> Answer:
        from ministack.core.responses import error_response_json

        return error_response_json("ValidationException", message, 400)


# === a transaction ===


class Transactions:
    """ExecuteTransaction."""

    def __init__(self, dynamodb: ModuleType, writes: Writes) -> None:
        self._dynamodb = dynamodb
        self._writes = writes

    def execute(self, data: dict) -> Answer:
        """Runs all statements of a request, or none of them."""
        from ministack.core.responses import error_response_json, json_response

        # As text: a parameter may become a part of an item.
        token, signature = data.get("ClientRequestToken"), json.dumps(data, sort_keys=True)
        prior = self._dynamodb._txn_token_lookup(token) if token else None
        if prior and prior["signature"] == signature:
            return json_response(prior["response"])
        try:
            if prior:
                raise Refused("IdempotentParameterMismatchException",
                              "Request token already in use for another request with a different payload")
            statements = self._read(data.get("TransactStatements"))
            answers, reasons = self._run(statements)
        except Refused as refused:
            return error_response_json(refused.code, str(refused), 400)
        if reasons:
            return _cancelled([reasons.get(number, {"Code": "None"}) for number in range(len(statements))])
        # Writes answer nothing.
        response = {"Responses": answers if any(one.operation in READS for one in statements) else []}
        if token:
            self._dynamodb._txn_token_store(token, {"signature": signature, "response": response})
        if data.get("ReturnConsumedCapacity", "NONE") != "NONE":
            response = response | {"ConsumedCapacity": self._consumed(statements)}
        return json_response(response)

    def _read(self, requests: Any) -> list[Statement]:
        """The statements, each of which is about one item of its own."""
        if not isinstance(requests, list) or not 0 < len(requests) <= MOST_STATEMENTS:
            raise _invalid(f"a transaction has 1 to {MOST_STATEMENTS} statements")
        statements = [self._read_one(number, request) for number, request in enumerate(requests)]
        if len({one.operation in READS for one in statements if one.operation != "EXISTS"}) > 1:
            raise _invalid("a transaction has either read statements or write statements")
        if len({(one.table["TableName"], one.key) for one in statements}) < len(statements):
            raise _invalid("Transaction request cannot include multiple operations on one item")
        return statements

    def _read_one(self, number: int, request: dict) -> Statement:
        text = request.get("Statement") or ""
        at = f"Validation failed in TransactStatements[{number}]: "
        try:
            parsed = self._dynamodb._parse_partiql(text, request.get("Parameters", []))
        except ValueError as error:
            raise _invalid((at if getattr(error, "statement_level", False) else "") + str(error)) from error
        if parsed.get("returning"):
            raise _invalid(f"{at}RETURNING clause is not supported in ExecuteTransaction.")
        table = self._dynamodb._tables.get(parsed["table"])
        if table is None:
            raise Refused("ResourceNotFoundException", f"Requested resource not found: Table: {parsed['table']} not found")
        problem = self._bad_read(table, parsed)
        if problem:
            raise _invalid(at + problem)
        if parsed["op"] == "INSERT":
            item = parsed.get("item") or {}
            key = self._writes.key_of_item(table, item["M"] if set(item) == {"M"} else item)
        else:
            key, refusal = self._writes.key_of_where(table, parsed.get("select", parsed))
            if refusal:
                raise _invalid(at + _body(refusal).get("message", ""))
        return Statement(request, parsed, table, key)

    def _bad_read(self, table: dict, parsed: dict) -> str:
        if parsed["op"] == "SELECT":
            if parsed.get("index"):
                return "Reads on indices are not supported within transactions."
            if self._dynamodb._pq_select_key_error(table, parsed):
                return "Select statements within ExecuteTransaction must specify the primary key in the where clause."
        if parsed["op"] == "EXISTS":
            inner = parsed["select"]
            keys = (table["pk_name"], table["sk_name"])
            key_only = all(operator == "=" and name in keys for name, operator, _ in inner.get("conditions") or [])
            if self._dynamodb._pq_select_key_error(table, {**inner, "where": None}) or (
                    key_only and not self._dynamodb._pq_has_call(inner.get("where"))):
                return "EXISTS() must contain a single item read with additional condition"
        return ""

    def _run(self, statements: list[Statement]) -> tuple[list[dict], dict[int, dict]]:
        """What each statement answers, and the reasons of those that failed. Each sees the items as they were before, since
        no other statement is about its item."""
        answers, reasons = [], {}
        changes: list[Change] = []
        outer = _changes.set(changes)
        try:
            for number, statement in enumerate(statements):
                answer = self._run_one(statement)
                found = _body(answer)
                if answer[0] == 200:
                    answers.append({"Item": found["Items"][0]} if found.get("Items") else {})
                else:
                    reasons[number] = _reason(found)
        finally:
            _changes.reset(outer)
        # What AWS limits is the items and not the request, which also has the values that conditions compare with.
        is_too_large = not reasons and sum(map(self._bytes, changes)) > MOST_BYTES
        if reasons or is_too_large:
            for change in reversed(changes):
                self._writes.undo(change)
        else:
            for change in changes:
                self._writes.emit(change)
        if is_too_large:
            raise _invalid("Transaction request exceeds the 4MB transaction size limit")
        return answers, reasons

    def _bytes(self, change: Change) -> int:
        """The size of an item that is written; of one that is deleted, as it was, although AWS does not say that this counts."""
        return self._dynamodb._item_size_bytes(change.before if change.after is None else change.after)

    def _run_one(self, statement: Statement) -> Answer:
        from ministack.core.responses import error_response_json, json_response

        dynamodb, table, parsed = self._dynamodb, statement.table, statement.parsed
        if statement.operation == "SELECT":
            return dynamodb._partiql_select(table, parsed)
        if statement.operation == "INSERT":
            return dynamodb._partiql_insert(table, parsed)
        if statement.operation == "UPDATE":
            return dynamodb._partiql_update(table, parsed, statement.request)
        if statement.operation == "DELETE":
            return dynamodb._partiql_delete(table, parsed, statement.request)
        condition = dynamodb._partiql_key_target(table, parsed["select"])[2]
        try:
            holds = statement.item is not None and condition(statement.item)
        except ValueError as error:
            return error_response_json("ValidationException", str(error), 400)
        if holds:
            return json_response({})
        return error_response_json("ConditionalCheckFailedException", "The conditional request failed", 400)

    def _consumed(self, statements: list[Statement]) -> list[dict]:
        """Two units for each started kilobyte."""
        units: dict[str, float] = {}
        for one in statements:
            size = self._dynamodb._item_size_bytes(one.item) if one.item else 0
            name = one.table["TableName"]
            units[name] = units.get(name, 0.0) + 2 * self._dynamodb._capacity_kb(size)
        return [{"TableName": name, "CapacityUnits": consumed} for name, consumed in units.items()]


def _invalid(message: str) -> Refused:
    return Refused("ValidationException", message)


def _body(answer: Answer) -> dict:
    return json.loads(answer[2])


def _reason(error: dict) -> dict:
    """A cancellation reason: its codes are those of exceptions without `Exception`, except for `ValidationError`."""
    code = error.get("__type", "ValidationException").rpartition("#")[2]
    code = "ValidationError" if code == "ValidationException" else code.removesuffix("Exception")
    return {"Code": code, "Message": error.get("message", "")} | ({"Item": error["Item"]} if "Item" in error else {})


def _cancelled(reasons: list[dict]) -> Answer:
    kind = "TransactionCanceledException"
    codes = ", ".join(reason["Code"] for reason in reasons)
    body = {
        "__type": kind,
        "message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        "CancellationReasons": reasons,
    }
    return 400, {"Content-Type": "application/x-amz-json-1.0", "x-amzn-errortype": kind}, json.dumps(body, ensure_ascii=False).encode()
