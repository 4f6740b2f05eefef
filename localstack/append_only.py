"""Every way in which DynamoDB changes or deletes an item that is there. Whoever may only add to a table is denied all of them."""

from __future__ import annotations

import uuid
from typing import Any, Callable

from botocore.exceptions import ClientError

Attempt = Callable[[], Any]
Key = dict[str, dict[str, str]]
"""PK and SK, as DynamoDB has them."""


def attempts(dynamodb: Any, table: str, key: Key) -> dict[str, Attempt]:
    """The calls that would change this item or delete it, by name."""
    item, at = {**key, "tampered": {"S": "1"}}, {"TableName": table, "Key": key}
    update = {**at, "UpdateExpression": "SET tampered = :v", "ExpressionAttributeValues": {":v": {"S": "1"}}}
    members = {"Put": {"TableName": table, "Item": item}, "Update": update, "Delete": at}
    batch = lambda request: lambda: dynamodb.batch_write_item(RequestItems={table: [request]})
    found: dict[str, Attempt] = {
        "PutItem": lambda: dynamodb.put_item(TableName=table, Item=item),
        "UpdateItem": lambda: dynamodb.update_item(**update),
        "DeleteItem": lambda: dynamodb.delete_item(**at),
        "BatchWriteItem, PutRequest": batch({"PutRequest": {"Item": item}}),
        "BatchWriteItem, DeleteRequest": batch({"DeleteRequest": {"Key": key}}),
    }
    for name, member in members.items():
        found[f"TransactWriteItems, {name}"] = lambda one={name: member}: dynamodb.transact_write_items(TransactItems=[one])
    where = {"Parameters": [key["PK"], key["SK"]]}
    statements = {
        "UPDATE": {"Statement": f"""UPDATE "{table}" SET "tampered"='1' WHERE "PK"=? AND "SK"=?""", **where},
        "UPDATE, REMOVE": {"Statement": f"""UPDATE "{table}" REMOVE "value" WHERE "PK"=? AND "SK"=?""", **where},
        "DELETE": {"Statement": f"""DELETE FROM "{table}" WHERE "PK"=? AND "SK"=?""", **where},
    }
    for name, one in statements.items():
        found |= {f"{operation}, {name}": call for operation, call in ways(dynamodb, one).items()}
        # Beside a statement that is allowed, on either side of it.
        added = insert(table, {"PK": key["PK"], "SK": {"S": f"{uuid.uuid4()}"}})
        for several in ([added, one], [one, added]):
            more = list(ways(dynamodb, *several).items())[1:]
            found |= {f"{operation}, {name}, {several.index(one) + 1} of 2": call for operation, call in more}
    return found


def ways(dynamodb: Any, *statements: dict) -> dict[str, Attempt]:
    """The operations that run these statements of PartiQL: one by one, in a batch, in a transaction."""
    return {
        "ExecuteStatement": lambda: [dynamodb.execute_statement(**one) for one in statements],
        "BatchExecuteStatement": lambda: dynamodb.batch_execute_statement(Statements=list(statements)),
        "ExecuteTransaction": lambda: dynamodb.execute_transaction(TransactStatements=list(statements)),
    }


def insert(table: str, item: Key) -> dict:
    """The statement that adds this item."""
    names = ", ".join(f"'{name}': ?" for name in item)
    return {"Statement": f'INSERT INTO "{table}" VALUE {{{names}}}', "Parameters": list(item.values())}


def problem(dynamodb: Any, table: str, key: Key, *, may_add: bool = True) -> str:
    """What is wrong, or nothing: the item cannot be changed, deleted or inserted again, and another one can be added, or cannot."""
    for name, attempt in attempts(dynamodb, table, key).items():
        if (code := code_of(attempt)) != "AccessDeniedException":
            return f"{name} on an item that is there: {code or 'it is allowed'}, not AccessDeniedException"
    new = ways(dynamodb, insert(table, {"PK": {"S": "PROOF"}, "SK": {"S": str(uuid.uuid4())}}))
    if not may_add:
        codes = {name: code_of(attempt) for name, attempt in new.items()}
        return "" if set(codes.values()) == {"AccessDeniedException"} else f"INSERT of a new item: {codes}, not AccessDeniedException"
    again = ways(dynamodb, insert(table, key))
    for name, wanted in (("ExecuteStatement", "DuplicateItemException"), ("ExecuteTransaction", "TransactionCanceledException")):
        if (code := code_of(again[name])) != wanted:
            return f"{name}, INSERT of an item that is there: {code or 'it is allowed'}, not {wanted}"
    # A batch answers with the errors of its statements.
    (one,) = again["BatchExecuteStatement"]()["Responses"]
    if (code := one.get("Error", {}).get("Code")) != "DuplicateItem":
        return f"BatchExecuteStatement, INSERT of an item that is there: {code or 'it is allowed'}, not DuplicateItem"
    return f"INSERT of a new item: {code}" if (code := code_of(new["ExecuteTransaction"])) else ""


def code_of(attempt: Attempt) -> str:
    """The error's code, or nothing if there is none."""
    try:
        attempt()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return ""
