"""Reads from a request what MiniStack does not: further resources, and the condition keys that our policies name.

The rules are AWS's: https://docs.aws.amazon.com/service-authorization/latest/reference/ (DynamoDB, Systems Manager,
S3, Secrets Manager, Cloud Map, KMS). What is under a customer key (a table, a SecureString, an object, a secret) needs the key for the
caller. The store calls it on the caller's behalf, with `kms:ViaService` and the encryption context as condition keys.
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
        _statement_checks(_transaction_checks(actions.dynamodb_transaction_checks, actions._DYNAMODB_TRANSACT_ITEM_ACTIONS)),
        lambda action, *_: [(action, UNREADABLE)],
    )
    actions.extract_resource_arn = reading(_resources(actions.extract_resource_arn))
    actions.s3_additional_checks = _reading(
        _source_checks(actions.s3_additional_checks, actions), lambda *_: [("tagged-config:UnreadableRequest", "*")]
    )


def over_tls(original: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Wraps the values of condition keys: calls are HTTP here and HTTPS on AWS, so `aws:SecureTransport` is true."""

    def resolve_condition_key(key: str, ctx: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else original(key, ctx)

    return resolve_condition_key


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
        return [(action, _enclosed(_table(arn, _leading_keys(member), region), iam_action))
                for (action, arn), member in zip(found, members, strict=True)]

    return dynamodb_transaction_checks


_TRANSACTIONS = {"dynamodb:ExecuteTransaction", "dynamodb:TransactGetItems", "dynamodb:TransactWriteItems"}


def _enclosed(table: Resource, operation: str) -> Resource:
    """The table with the condition key that tells transactions from other calls, which have none. MiniStack gives every
    operation one, as a list, which no plain operator compares with."""
    enclosing = operation.partition(":")[2] if operation in _TRANSACTIONS else None
    return Resource(table, {**table.keys, "dynamodb:EnclosingOperation": enclosing}, checks=table.checks)


_STATEMENTS = {
    "dynamodb:ExecuteStatement": lambda request: [request],
    "dynamodb:BatchExecuteStatement": lambda request: request["Statements"],
    "dynamodb:ExecuteTransaction": lambda request: request["TransactStatements"],
}
"""The statements of each PartiQL operation."""


def _statement_checks(original: Callable) -> Callable:
    """The checks of PartiQL: AWS authorizes each statement, as one of four actions, and the operation not at all
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html). AWS's answer to
    a batch may say of one statement that it was denied; here the whole batch is."""

    def dynamodb_transaction_checks(iam_action: str, body: bytes, region: str, account_id: str) -> list[tuple[str, str]]:
        if iam_action not in _STATEMENTS:
            return original(iam_action, body, region, account_id)
        checks = [_statement(iam_action, one, region, account_id) for one in _STATEMENTS[iam_action](_request(body))]
        return checks or [(iam_action, UNREADABLE)]

    return dynamodb_transaction_checks


def _statement(operation: str, statement: dict, region: str, account_id: str) -> tuple[str, Resource]:
    """The action of one statement, and its table or index with the partition keys that it names. Raises an error if it
    cannot be parsed."""
    from ministack.services import dynamodb

    parsed = dynamodb._parse_partiql(statement["Statement"], statement.get("Parameters") or [])
    parsed = parsed.get("select", parsed)  # EXISTS reads an item
    table, index = parsed["table"], parsed.get("index")
    arn = _table_arn(table, region, account_id) + (f"/index/{index}" if index else "")
    found = _table(arn, _keys_of_statement(parsed, _partition_key(table, index)), region)
    return f"dynamodb:PartiQL{parsed['op'].title()}", _enclosed(found, operation)


def _keys_of_statement(parsed: dict, name: str | None) -> list[str]:
    """Values of the partition key: of the item of an INSERT, else of the equalities of a WHERE."""
    if parsed["op"] == "INSERT":
        item = parsed["item"]
        values = [(item["M"] if set(item) == {"M"} else item).get(name)]
    else:
        conditions = [(operator, value) for attribute, operator, value in parsed["conditions"] if attribute == name]
        values = [one for operator, value in conditions if operator in ("=", "IN")
                  for one in (value if operator == "IN" else [value])]
    return list(dict.fromkeys(str(next(iter(value.values()))) for value in values if value))


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
    if encryption.get("Status") != "ENABLED" or _is_managed(arn):
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
        if service == "s3":
            return _s3_resource(found, method, path, headers, query_params, region, account_id)
        if service == "secretsmanager":
            return _secret(found, operation, _request(body), region, account_id)
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
    if not _is_managed(key):
        yield _via(key_arn(key, region, account_id), f"ssm.{region}.amazonaws.com", {"PARAMETER_ARN": arn}, action)


# === S3 ===

_READS = {"GetObject", "GetObjectVersion"}


def _s3_resource(found: str, method: str, path: str, headers: dict, query_params: dict, region: str, account_id: str) -> str:
    """The object of a request, with the key that it is encrypted with. A bucket is what MiniStack found."""
    from ministack.core import iam_actions
    from ministack.services import s3

    bucket, key = s3._parse_bucket_key(path, headers)
    if not key or bucket not in s3._buckets:
        return found
    arn = f"arn:aws:s3:::{bucket}/{key}"
    action = iam_actions._s3_action(method, path, query_params)
    if action in _READS:
        # The head of an object is not decrypted, except for its checksum.
        decrypts = method != "HEAD" or headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
        return _object_read(bucket, key, _first(query_params, "versionId"), region, account_id, decrypts)
    if action == "PutObject":
        upload = s3._multipart_uploads.get(_first(query_params, "uploadId"))
        if upload:
            # A part and the end of an upload use the key that its beginning has made.
            return Resource(arn, checks=_object_key(bucket, arn, upload["preserved_headers"], "kms:Decrypt", region, account_id))
        written = headers if headers.get(_ENCRYPTION) else s3._bucket_default_sse_headers(bucket)
        return Resource(arn, checks=_object_key(bucket, arn, written, "kms:GenerateDataKey", region, account_id))
    return Resource(arn)


def _source_checks(original: Callable, actions: ModuleType) -> Callable:
    """The further objects of a request: what is read of them, such as a copy's source, is decrypted."""

    def s3_additional_checks(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> list[tuple[str, str]]:
        from ministack.core.responses import get_account_id, get_region

        source = actions._s3_source_object(headers)
        version = source[1] if source else _first(query_params, "versionId")
        checks = []
        for action, arn in original(method, path, headers, body, query_params):
            if action.removeprefix("s3:") in _READS:
                bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
                arn = _object_read(bucket, key, version, get_region(), get_account_id())
            checks.append((action, arn))
        return checks

    return s3_additional_checks


def _object_read(bucket: str, key: str, version: str, region: str, account_id: str, decrypts: bool = True) -> Resource:
    """An object that is read. Whoever may not list the bucket does not learn that there is none
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html)."""
    from ministack.services import s3

    arn = f"arn:aws:s3:::{bucket}/{key}"
    if version:
        record = next((one for one in s3._object_versions.get((bucket, key), []) if one["version_id"] == version), None)
    else:
        record = (s3._buckets.get(bucket) or {}).get("objects", {}).get(key)
    if record is None:
        return Resource(arn, checks=(Check("s3:ListBucket", f"arn:aws:s3:::{bucket}"),))
    if not decrypts:
        return Resource(arn)
    return Resource(arn, checks=_object_key(bucket, arn, record.get("preserved_headers") or {}, "kms:Decrypt", region, account_id))


_ENCRYPTION = "x-amz-server-side-encryption"


def _object_key(bucket: str, arn: str, encryption: dict, action: str, region: str, account_id: str) -> tuple[Check, ...]:
    """The use of an object's key. A bucket key makes the bucket the encryption context."""
    from ministack.core.responses import get_region
    from ministack.services import s3

    key = encryption.get(f"{_ENCRYPTION}-aws-kms-key-id", "")
    if encryption.get(_ENCRYPTION) != "aws:kms" or _is_managed(key):
        return ()
    has_bucket_key = re.search(r"<BucketKeyEnabled>\s*true\s*<", s3._bucket_encryption.get(bucket) or "", re.IGNORECASE)
    place = region or get_region()
    context = {"aws:s3:arn": f"arn:aws:s3:::{bucket}" if has_bucket_key else arn}
    return (_via(key_arn(key, place, account_id), f"s3.{place}.amazonaws.com", context, action),)


def _first(query_params: dict, name: str) -> str:
    value = query_params.get(name) or ""
    return str(value[0] if isinstance(value, list) else value)


# === Secrets Manager ===


def _secret(found: str, operation: str, request: dict, region: str, account_id: str) -> str:
    """The secret of a request, with its condition keys and its key. Its ARN is MiniStack's: the stored one, with its six characters."""
    if not isinstance(request.get("SecretId", request.get("Name")), str):
        return found
    keys = {f"secretsmanager:{name}": request[name] for name in ("Name", "SecretId", "VersionId", "VersionStage") if name in request}
    if operation == "GetSecretValue" and not keys.keys() & {"secretsmanager:VersionId", "secretsmanager:VersionStage"}:
        keys["secretsmanager:VersionStage"] = "AWSCURRENT"
    return Resource(found, keys, checks=tuple(_secret_keys(found, operation, request, region, account_id)))


def _secret_keys(arn: str, operation: str, request: dict, region: str, account_id: str) -> Iterable[Check]:
    from ministack.services import secretsmanager

    record = secretsmanager._resolve(request.get("SecretId"))[1] or {}
    key = request.get("KmsKeyId") or record.get("KmsKeyId") or ""
    context = {"SecretARN": arn}
    if operation == "GetSecretValue" and record:
        actions = ["kms:Decrypt"]
        stage = request.get("VersionStage") or "AWSCURRENT"
        version = request.get("VersionId") or secretsmanager._find_stage_version(record, stage)[0]
        context |= {"SecretVersionId": version} if version else {}
    elif operation in ("CreateSecret", "PutSecretValue", "UpdateSecret") and request.keys() & {"SecretString", "SecretBinary"}:
        actions = ["kms:GenerateDataKey", "kms:Decrypt"]
    else:
        actions = []
    if not _is_managed(key):
        for action in actions:
            yield _via(key_arn(key, region, account_id), f"secretsmanager.{region}.amazonaws.com", context, action)


# === KMS ===


def _is_managed(key: str) -> bool:
    """Whether this is a key that AWS manages: it allows every caller that its service allows."""
    return not key or key.startswith("alias/aws/") or ":alias/aws/" in key


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
