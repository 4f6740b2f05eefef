"""Reads from a request what MiniStack does not: further resources, and the condition keys that our policies name.

The rules are AWS's: https://docs.aws.amazon.com/service-authorization/latest/reference/ (DynamoDB, Systems Manager,
Cloud Map, KMS). A table or a SecureString under a customer key needs `kms:Decrypt` for the caller. The store calls it on
the caller's behalf, with `kms:ViaService` and the encryption context as condition keys.
"""

from __future__ import annotations

import functools
import json
import re
from types import ModuleType
from typing import Any, Callable, Iterable

from .resources import Check, Resource

_EQUALITY = re.compile(r"([#\w.-]+)\s*=\s*(:\w+)")
"""`name = :value` of a key condition: the partition key is always compared so."""


def install(actions: ModuleType) -> None:
    """Replaces how MiniStack finds a request's resources."""
    actions.dynamodb_resource_arns = _reading(
        _dynamodb_resources(actions.dynamodb_resource_arns), lambda *_: [UNREADABLE]
    )
    actions.dynamodb_transaction_checks = _reading(
        _transaction_checks(actions.dynamodb_transaction_checks, actions._DYNAMODB_TRANSACT_ITEM_ACTIONS),
        lambda action, *_: [(action, UNREADABLE)],
    )
    actions.extract_resource_arn = reading(_resources(actions.extract_resource_arn))


UNREADABLE = Resource("*", checks=(Check("tagged-config:UnreadableRequest", "*"),))
"""The resources of a request whose shape no service accepts. The account's owner gets the service's own error;
every other caller is denied, because no policy allows the action."""


def _reading(function: Callable, otherwise: Callable) -> Callable:
    @functools.wraps(function)
    def read(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception:  # half-written requests take any shape
            return otherwise(*arguments, **named)

    return read


def reading(function: Callable[..., str]) -> Callable[..., str]:
    """The same function, with `UNREADABLE` where it fails."""
    return _reading(function, lambda *_, **__: UNREADABLE)


# === DynamoDB ===


def _dynamodb_resources(original: Callable[[bytes, str, str], list[str]]) -> Callable[[bytes, str, str], list[str]]:
    """The tables of a request, each with its leading keys and its KMS key."""

    def dynamodb_resource_arns(body: bytes, region: str, account_id: str) -> list[str]:
        request = _request(body)
        # A batch is about these, whatever table it names beside them.
        if isinstance(request.get("RequestItems"), dict):
            tables = request["RequestItems"].items()
            return [_table(_table_arn(name, region, account_id), _batch_keys(name, part), region) for name, part in tables]
        found = original(body, region, account_id)
        return [_table(found[0], _leading_keys(request), region)] if found else found

    return dynamodb_resource_arns


def _transaction_checks(original: Callable, actions: dict[str, str]) -> Callable:
    """The checks of a transaction, each with its own item's leading key. The order is MiniStack's."""

    def dynamodb_transaction_checks(iam_action: str, body: bytes, region: str, account_id: str) -> list[tuple[str, str]]:
        found = original(iam_action, body, region, account_id)
        if not found:
            return found
        members = [
            item[member]
            for item in json.loads(body)["TransactItems"]
            if isinstance(item, dict)
            for member in actions
            if isinstance(item.get(member), dict) and isinstance(item[member].get("TableName"), str) and item[member]["TableName"]
        ]
        return [(action, _table(arn, _leading_keys(member), region)) for (action, arn), member in zip(found, members, strict=True)]

    return dynamodb_transaction_checks


def _table_arn(name: str, region: str, account_id: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:dynamodb:{region}:{account_id}:table/{name}"


def _table(arn: str, leading_keys: list[str], region: str) -> Resource:
    keys = {"dynamodb:LeadingKeys": leading_keys[0] if len(leading_keys) == 1 else leading_keys} if leading_keys else {}
    name = arn.partition(":table/")[2].partition("/")[0]
    return Resource(arn, keys, checks=_table_key(name, region))


def _table_key(table: str, region: str) -> tuple[Check, ...]:
    from ministack.services import dynamodb

    encryption = (dynamodb._tables.get(table) or {}).get("SSEDescription") or {}
    arn = encryption.get("KMSMasterKeyArn", "")
    if encryption.get("Status") != "ENABLED" or not arn or ":alias/aws/" in arn:
        return ()
    return (_via(arn, f"dynamodb.{region}.amazonaws.com", {"aws:dynamodb:tableName": table}),)


def _partition_key(table: str, index: str | None) -> str | None:
    from ministack.services import dynamodb

    found = dynamodb._tables.get(table.rsplit("/", 1)[-1]) or {}
    if index:
        indexes = [*(found.get("GlobalSecondaryIndexes") or []), *(found.get("LocalSecondaryIndexes") or [])]
        found = next((one for one in indexes if one["IndexName"] == index), {})
    return next((key["AttributeName"] for key in found.get("KeySchema", []) if key["KeyType"] == "HASH"), None)


def _leading_keys(request: dict, table: str | None = None) -> list[str]:
    """Values of the partition key in one operation: of its Key, its Item, its Keys or its key condition."""
    name = _partition_key(table or request.get("TableName", ""), request.get("IndexName"))
    if "KeyConditionExpression" in request:
        names = request.get("ExpressionAttributeNames") or {}
        values = request.get("ExpressionAttributeValues") or {}
        pairs = _EQUALITY.findall(request["KeyConditionExpression"])
        found = [values.get(value) for key, value in pairs if names.get(key, key) == name]
    elif "Keys" in request:
        found = [key.get(name) for key in request["Keys"]]
    else:
        found = [(request.get("Key") or request.get("Item") or {}).get(name)]
    return list(dict.fromkeys(str(next(iter(value.values()))) for value in found if value))


def _batch_keys(table: str, part: Any) -> list[str]:
    """Leading keys of one table's part of a BatchGetItem or a BatchWriteItem."""
    if isinstance(part, dict):
        return _leading_keys(part, table)
    writes = (next(iter(write.values())) for write in part)
    return list(dict.fromkeys(key for write in writes for key in _leading_keys(write, table)))


# === Parameter Store, Cloud Map, logs ===


def _resources(original: Callable[..., str]) -> Callable[..., str]:
    def extract_resource_arn(
        service: str, method: str, path: str, headers: dict, body: bytes, query_params: dict, region: str, account_id: str
    ) -> str:
        found = original(service, method, path, headers, body, query_params, region, account_id)
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "ssm" and operation in _PARAMETER_OPERATIONS:
            request = _request(body)
            names = request.get("Names") if "Names" in request else [request.get("Name")]
            known = [name for name in names if isinstance(name, str) and name] if isinstance(names, list) else []
            if known:
                first, *more = (parameter(name, operation, request, region, account_id) for name in known)
                return Resource(first, first.keys, tuple(more), first.checks)
        if service == "logs" and _LOG_GROUP.fullmatch(found) and "Tag" not in operation:
            # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/iam-access-control-overview-cwl.html
            return f"{found}:*"
        if service == "servicediscovery" and operation.startswith("DiscoverInstances"):
            request = _request(body)
            return Resource(found, {
                "servicediscovery:NamespaceName": request.get("NamespaceName"),
                "servicediscovery:ServiceName": request.get("ServiceName"),
            })
        return found

    return extract_resource_arn


_LOG_GROUP = re.compile(r"arn:aws:logs:[^:]*:[^:]*:log-group:[^:*]+")
"""A group without the `:*` that all but the tagging operations are authorized with."""

_PARAMETER_OPERATIONS = {
    "GetParameter", "GetParameters", "GetParameterHistory", "PutParameter", "DeleteParameter", "DeleteParameters",
}
_DECRYPTING = {"GetParameter", "GetParameters", "GetParameterHistory"}


def parameter(name: str, operation: str, request: dict, region: str, account_id: str) -> Resource:
    """The parameter of this name. Of `name:version` and `name:label` AWS authorizes the parameter."""
    path = name.partition(":parameter/")[2] if name.startswith("arn:") else name.lstrip("/")
    arn = f"arn:aws:ssm:{region}:{account_id}:parameter/{path.partition(':')[0]}"
    return Resource(arn, checks=tuple(_parameter_keys(arn, operation, request, region, account_id)))


def _parameter_keys(arn: str, operation: str, request: dict, region: str, account_id: str) -> Iterable[Check]:
    from ministack.services import ssm

    path = arn.partition(":parameter")[2]
    record = ssm._lookup_parameter(path)[1] or ssm._lookup_parameter(path[1:])[1]
    if operation in _DECRYPTING:
        key = record["KeyId"] if record and record["Type"] == "SecureString" and request.get("WithDecryption") else ""
        action = "kms:Decrypt"
    else:
        # Without a type the parameter keeps the one it has.
        kind = request.get("Type") or (record or {}).get("Type")
        key = (request.get("KeyId") or "alias/aws/ssm") if kind == "SecureString" else ""
        action = "kms:Encrypt"
    # The key that AWS manages allows every caller that Parameter Store allows.
    if key and not key.startswith("alias/aws/"):
        yield _via(key_arn(key, region, account_id), f"ssm.{region}.amazonaws.com", {"PARAMETER_ARN": arn}, action)


def _via(key_arn: str, service: str, encryption_context: dict[str, str], action: str = "kms:Decrypt") -> Check:
    context = {f"kms:EncryptionContext:{name}": value for name, value in encryption_context.items()}
    context["kms:EncryptionContextKeys"] = list(encryption_context)
    return Check(action, key_arn, {"kms:ViaService": service, "kms:CallerAccount": key_arn.split(":")[4], **context})


def key_arn(key: str, region: str, account_id: str) -> str:
    """The ARN of the key that an id, an alias or an ARN names."""
    from ministack.services import kms

    record = kms._resolve_key(key)
    return record["Arn"] if record else key if key.startswith("arn:") else f"arn:aws:kms:{region}:{account_id}:key/{key}"


def _request(body: bytes) -> dict:
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        return {}
    return request if isinstance(request, dict) else {}
