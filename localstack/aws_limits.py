"""The emulator extension: AWS's limits, where MiniStack accepts what AWS refuses.

- Request parameters against botocore's own models (types, required, lengths, ranges, patterns, enumerations), for the services
  in `MODELS`. A pattern that is no Python expression is not checked.
- Parameter Store: 40 reads a second for account and region (`ThrottlingException`; 10,000 with higher throughput
  switched on), values of 4 KiB (standard) and 8 KiB (advanced), 15 levels, no `{{...}}` in a value.
- Cloud Map: DiscoverInstances by a bucket of 2,000 that gains 1,000 a second (`RequestLimitExceeded`).
- EC2: the characters that descriptions of security groups and their rules may hold. IAM: sizes of policies.
- Secrets Manager: values of 64 KiB, in bytes; no version is written twice (`ResourceExistsException`).
- S3: keys of 1,024 bytes, 2 KB of metadata, pages of 1,000 keys, and KMS keys that are there and enabled.

MiniStack itself has DynamoDB's: items of 400 KB, 100 actions and 4 MB in a transaction. Sources stand at each limit.
A call is checked after its permission, as on AWS. It hooks one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import base64
import functools
import json
import re
import threading
import time
from types import ModuleType
from typing import Any, Callable, Iterable, Iterator
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import hooks

Handler = Callable[..., Any]
Answer = tuple[int, dict[str, str], bytes]

PARAMETER_READS_PER_SECOND = 40.0
"""GetParameter, GetParameters and GetParametersByPath together (Systems Manager endpoints and quotas)."""
PARAMETER_READS_WITH_HIGH_THROUGHPUT = 10_000.0
HIGH_THROUGHPUT = "/ssm/parameter-store/high-throughput-enabled"
DISCOVERIES_AT_ONCE, DISCOVERIES_PER_SECOND = 2_000.0, 1_000.0
"""https://docs.aws.amazon.com/cloud-map/latest/dg/cloud-map-api-throttling.html"""
PARAMETER_BYTES = {"Standard": 4_096, "Advanced": 8_192}
PARAMETER_LEVELS = 15
POLICY_CHARACTERS = {"CreatePolicy": 6_144, "CreatePolicyVersion": 6_144, "PutRolePolicy": 10_240}
"""Without white space (IAM and STS quotas); of a role's inline policies together."""
SECRET_BYTES = 65_536
"""https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html"""
OBJECT_KEY_BYTES = 1_024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
OBJECT_METADATA_BYTES = 2_048
"""Names, without their prefix, and values (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html)."""
LISTED_KEYS = 1_000
GROUP_DESCRIPTION = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}")
"""https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html"""

MODELS = {
    # MiniStack's service: botocore's, and the code of a refusal.
    "cognito-idp": ("cognito-idp", "InvalidParameterException"),
    "dynamodb": ("dynamodb", "ValidationException"),
    "ecs": ("ecs", "InvalidParameterException"),
    "events": ("events", "ValidationException"),
    "iam": ("iam", "ValidationError"),
    "kms": ("kms", "ValidationException"),
    "logs": ("logs", "InvalidParameterException"),
    "secretsmanager": ("secretsmanager", "ValidationException"),
    "servicediscovery": ("servicediscovery", "InvalidInput"),
    "sns": ("sns", "InvalidParameter"),
    "ssm": ("ssm", "ValidationException"),
    "sts": ("sts", "ValidationError"),
    "wafv2": ("wafv2", "WAFInvalidParameterException"),
    "elasticloadbalancing": ("elbv2", "ValidationError"),
}


class Refused(Exception):
    """A call that AWS refuses."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def verify(app: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless MiniStack's handlers are as this module knows them."""
    handlers = getattr(app, "SERVICE_HANDLERS", {})
    missing = [service for service in (*MODELS, "ec2", "s3") if service not in handlers]
    if missing:
        raise hooks.UnsupportedEmulator(f"MiniStack has no handler of {', '.join(missing)} any more: adapt aws_limits")


def install() -> None:
    """Hooks the installed MiniStack."""
    hooks.require_version(hooks.installed_version())
    from ministack import app

    from ministack.services import kms, s3, secretsmanager, ssm

    verify(app)
    hooks.require_function(ssm, "_default_tier", ["data", "value", "existing"])
    hooks.require_function(kms, "_resolve_key", ["key_id_or_arn"])
    hooks.require_function(s3, "_parse_bucket_key", ["path", "headers"])
    hooks.require_function(s3, "_bucket_default_sse_headers", ["bucket_name"])
    hooks.require_function(secretsmanager, "_resolve", ["secret_id", "use_arn_scope"])
    limits = [ParameterStore(), Discovery(), Descriptions(), Policies(), Secrets()]
    for service in (*MODELS, "ec2"):
        checks = [limit.check for limit in limits if service == limit.SERVICE]
        if service in MODELS:
            checks.insert(0, Model(*MODELS[service]).check)
        app.SERVICE_HANDLERS[service] = limited(app.SERVICE_HANDLERS[service], checks)
    app.SERVICE_HANDLERS["s3"] = Objects().limited(app.SERVICE_HANDLERS["s3"])


def limited(original: Handler, checks: Iterable[Callable[[str, dict], None]]) -> Handler:
    """A handler that refuses what one of the checks refuses."""
    checks = list(checks)

    @functools.wraps(original)
    async def handle(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Any:
        operation, request, is_json = read(headers, body, query_params)
        try:
            for check in checks if operation else ():
                check(operation, request)
        except Refused as refusal:
            return answer(refusal, headers, is_json)
        return await original(method, path, headers, body, query_params)

    return handle


def read(headers: dict, body: bytes, query_params: dict) -> tuple[str, dict, bool]:
    """The operation and the parameters of a request, and whether it is JSON. No operation: it is of another protocol."""
    if target := headers.get("x-amz-target", ""):
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return "", {}, True
        return target.rpartition(".")[2], request if isinstance(request, dict) else {}, True
    fields = {name: value[0] if isinstance(value, list) else value for name, value in query_params.items()}
    if "x-www-form-urlencoded" in headers.get("content-type", ""):
        fields |= dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    return fields.get("Action", ""), fields, False


def answer(refusal: Refused, headers: dict, is_json: bool) -> Answer:
    """The refusal in the protocol of the request."""
    if is_json:
        content_type = headers.get("content-type") or "application/x-amz-json-1.1"
        body = {"__type": refusal.code, "message": refusal.message}
        return refusal.status, {"Content-Type": content_type, "x-amzn-errortype": refusal.code}, json.dumps(body).encode()
    error = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
    text = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>limits</RequestId></ErrorResponse>"
    if refusal.code == "InvalidParameterValue":  # EC2's own envelope
        text = f"<Response><Errors><Error>{error}</Error></Errors><RequestID>limits</RequestID></Response>"
    return refusal.status, {"Content-Type": "text/xml"}, text.encode()


# === what the models say ===


class Model:
    """The requests of one service, as botocore's model constrains them."""

    def __init__(self, service: str, code: str) -> None:
        self._service = service
        self._code = code

    @functools.cached_property
    def _model(self) -> Any:
        import botocore.loaders
        import botocore.model

        description = botocore.loaders.Loader().load_service_model(self._service, "service-2")
        return botocore.model.ServiceModel(description, self._service)

    def check(self, operation: str, request: dict) -> None:
        """Raises `Refused` with all that does not fit, in AWS's words."""
        if operation not in self._model.operation_names:
            return
        shape = self._model.operation_model(operation).input_shape
        if shape is None:
            return
        if self._model.metadata["protocol"] == "json":
            value = request
            require_types(shape, value, "")
        else:
            value = unflattened(shape, request, "")
        errors = list(violations(shape, value if value is not None else {}, ""))
        if errors:
            count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''} detected: "
            raise Refused(self._code, count + "; ".join(errors))


_JSON_TYPES = {
    "blob": str, "boolean": bool, "double": (int, float), "float": (int, float), "integer": int, "list": list, "long": int, "map": dict,
    "string": str, "structure": dict,
}


def require_types(shape: Any, value: Any, at: str) -> None:
    """Raises `Refused` for JSON of another type than the model's, which AWS cannot read at all."""
    wanted = _JSON_TYPES.get(shape.type_name)
    if wanted is None:
        return
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise Refused("SerializationException", f"{at or 'the request'} is no {shape.type_name}")
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if value.get(name) is not None:
                require_types(member, value[name], _inside(at, name))
    elif shape.type_name == "list":
        for number, one in enumerate(value, 1):
            require_types(shape.member, one, f"{at}.{number}.member")
    elif shape.type_name == "map":
        for key, one in value.items():
            require_types(shape.value, one, f"{at}.{key}.member")


def violations(shape: Any, value: Any, at: str) -> Iterator[str]:
    """What of a value does not fit its shape."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_inside(at, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from violations(member, value[name], _inside(at, name))
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _bounds(shape, len(value), value, at, "have length")
        for number, one in enumerate(value, 1):
            yield from violations(shape.member, one, f"{at}.{number}.member")
    elif shape.type_name == "map" and isinstance(value, dict):
        yield from _bounds(shape, len(value), value, at, "have length")
        for key, one in value.items():
            yield from violations(shape.key, key, f"{at}.key")
            yield from violations(shape.value, one, f"{at}.{key}.member")
    elif shape.type_name == "string" and isinstance(value, str):
        yield from _bounds(shape, len(value), value, at, "have length")
        pattern = _compiled(shape.metadata.get("pattern"))
        if pattern and not pattern.fullmatch(value):
            yield _said(shape, value, at, f"Member must satisfy regular expression pattern: {shape.metadata['pattern']}")
        if shape.enum and value not in shape.enum:
            yield _said(shape, value, at, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    elif shape.type_name in ("integer", "long", "double", "float") and isinstance(value, (int, float)):
        yield from _bounds(shape, value, value, at, "have value")


def unflattened(shape: Any, fields: dict[str, str], prefix: str) -> Any:
    """The value of a shape from the fields of a query string, or None: `Tags.member.1.Key=...`."""
    name = prefix.removesuffix(".")
    if shape.type_name == "structure":
        found = {
            key: value
            for key, member in shape.members.items()
            if (value := unflattened(member, fields, f"{prefix}{member.serialization.get('name', key)}.")) is not None
        }
        return found or ({} if any(key.startswith(prefix) for key in fields) else None)
    if shape.type_name == "list":
        root = name if shape.serialization.get("flattened") else f"{name}.{shape.member.serialization.get('name', 'member')}"
        found = []
        while any(key == f"{root}.{len(found) + 1}" or key.startswith(f"{root}.{len(found) + 1}.") for key in fields):
            found.append(unflattened(shape.member, fields, f"{root}.{len(found) + 1}."))
        return found or ([] if name in fields else None)
    if shape.type_name == "map":
        return None
    value = fields.get(name)
    if value is not None and shape.type_name in ("integer", "long", "double", "float"):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _inside(at: str, name: str) -> str:
    shown = name[:1].lower() + name[1:]
    return f"{at}.{shown}" if at else shown


def _bounds(shape: Any, measured: float, value: Any, at: str, what: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and measured < least:
        yield _said(shape, value, at, f"Member must {what} greater than or equal to {least}")
    if most is not None and measured > most:
        yield _said(shape, value, at, f"Member must {what} less than or equal to {most}")


def _said(shape: Any, value: Any, at: str, constraint: str) -> str:
    shown = "" if shape.metadata.get("sensitive") else f" '{str(value)[:200]}'"
    return f"Value{shown} at '{at}' failed to satisfy constraint: {constraint}"


@functools.lru_cache(maxsize=None)
def _compiled(pattern: str | None) -> re.Pattern | None:
    if not pattern:
        return None
    try:
        return re.compile(pattern)
    except re.error:
        return None


# === what they do not say ===


class Bucket:
    """A token bucket."""

    def __init__(self, size: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.size, self.per_second = size, per_second
        self._clock = clock
        self._level, self._at = size, clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Takes one token, if there is one."""
        with self._lock:
            now = self._clock()
            self._level = min(self.size, self._level + (now - self._at) * self.per_second)
            self._at = now
            if self._level < 1:
                return False
            self._level -= 1
            return True


class ParameterStore:
    """Parameter Store's rates and sizes."""

    SERVICE = "ssm"
    _READS = ("GetParameter", "GetParameters", "GetParametersByPath")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._standard = Bucket(PARAMETER_READS_PER_SECOND, PARAMETER_READS_PER_SECOND, clock)
        self._high = Bucket(PARAMETER_READS_WITH_HIGH_THROUGHPUT, PARAMETER_READS_WITH_HIGH_THROUGHPUT, clock)

    def check(self, operation: str, request: dict) -> None:
        """Raises `Refused` for a read beyond the rate, and for what no parameter may be."""
        if operation in self._READS and not (self._high if self._has_high_throughput() else self._standard).take():
            raise Refused("ThrottlingException", "Rate exceeded")
        if operation == "PutParameter":
            self._check_name(str(request.get("Name", "")))
            value = str(request.get("Value", ""))
            self._check_value(value, self._tier(request, value))

    @staticmethod
    def _has_high_throughput() -> bool:
        from ministack.services import ssm

        return (ssm._service_settings.get(HIGH_THROUGHPUT) or {}).get("value") == "true"

    @staticmethod
    def _tier(request: dict, value: str) -> str:
        from ministack.services import ssm

        tier = request.get("Tier") or ssm._default_tier(request, value, ssm._parameters.get(request.get("Name")))
        return "Advanced" if tier == "Intelligent-Tiering" else tier

    @staticmethod
    def _check_name(name: str) -> None:
        if name.count("/") > PARAMETER_LEVELS:
            raise Refused("HierarchyLevelLimitExceededException", f"A parameter name has at most {PARAMETER_LEVELS} levels")
        if not re.fullmatch(r"[a-zA-Z0-9_.\-/]+", name) or ("/" in name and not name.startswith("/")):
            raise Refused("ValidationException", "Parameter name must be a fully qualified name of letters, numbers and .-_/")

    @staticmethod
    def _check_value(value: str, tier: str) -> None:
        if not value:
            raise Refused("ValidationException", (
                "1 validation error detected: Value '' at 'value' failed to satisfy constraint: Member must have length greater than or "
                "equal to 1."))
        if len(value.encode()) > PARAMETER_BYTES[tier]:
            raise Refused("ValidationException", (
                "Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger parameter "
                "value, upgrade the parameter to use the advanced-parameter tier."
                if tier == "Standard" else "Advanced tier parameters support a maximum parameter value of 8192 characters."))
        if re.search(r"\{\{.*\}\}", value, re.DOTALL):
            raise Refused("ValidationException", "Parameter value can't nest another parameter: {{}} is not allowed")


class Discovery:
    """The rate of Cloud Map's data plane."""

    SERVICE = "servicediscovery"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._bucket = Bucket(DISCOVERIES_AT_ONCE, DISCOVERIES_PER_SECOND, clock)

    def check(self, operation: str, _: dict) -> None:
        """Raises `Refused` for a discovery beyond the rate."""
        if operation == "DiscoverInstances" and not self._bucket.take():
            raise Refused("RequestLimitExceeded", "The request was denied due to request throttling.", 429)


class Descriptions:
    """Descriptions of security groups and their rules."""

    SERVICE = "ec2"

    def check(self, operation: str, request: dict) -> None:
        """Raises `Refused` for a description with another character than EC2 takes."""
        if operation not in ("CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress"):
            return
        for name, value in request.items():
            if name.endswith("Description") and not GROUP_DESCRIPTION.fullmatch(value):
                raise Refused("InvalidParameterValue", (
                    "Invalid security group description. Valid descriptions are strings less than 256 characters from the "
                    "following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"))


class Policies:
    """Sizes of IAM policies."""

    SERVICE = "iam"

    def check(self, operation: str, request: dict) -> None:
        """Raises `Refused` for a policy, or the inline policies of a role, beyond the quota."""
        if operation not in POLICY_CHARACTERS:
            return
        size = _characters(request.get("PolicyDocument", ""))
        if operation == "PutRolePolicy":
            from ministack.services import iam

            role = iam._roles.get(request.get("RoleName", "")) or {}
            others = (role.get("InlinePolicies") or {}).items()
            size += sum(_characters(document) for name, document in others if name != request.get("PolicyName"))
        if size > POLICY_CHARACTERS[operation]:
            raise Refused("LimitExceeded", f"Cannot exceed quota for PolicySize: {POLICY_CHARACTERS[operation]}", 409)


class Secrets:
    """Values and versions of secrets."""

    SERVICE = "secretsmanager"

    def check(self, operation: str, request: dict) -> None:
        """Raises `Refused` for a value that is too large, and for another value of a version that exists."""
        if operation not in ("CreateSecret", "PutSecretValue", "UpdateSecret"):
            return
        text, binary = request.get("SecretString"), request.get("SecretBinary")
        try:
            sizes = {"secretString": len((text or "").encode()), "secretBinary": len(base64.b64decode(binary or ""))}
        except ValueError as error:
            raise Refused("SerializationException", "secretBinary is no Base64") from error
        for name, size in sizes.items():
            if size > SECRET_BYTES:
                raise Refused("ValidationException", (
                    f"1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must have length less than or "
                    f"equal to {SECRET_BYTES}"))
        if operation != "CreateSecret" and (text or binary):
            self._check_version(request, text, binary)

    @staticmethod
    def _check_version(request: dict, text: str | None, binary: str | None) -> None:
        from ministack.services import secretsmanager

        secret = secretsmanager._resolve(request.get("SecretId"))[1] or {}
        token = request.get("ClientRequestToken")
        version = (secret.get("Versions") or {}).get(token)
        if version and (version.get("SecretString"), version.get("SecretBinary")) != (text, binary):
            raise Refused("ResourceExistsException", (
                f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret {secret['ARN']}."))


class Objects:
    """S3's objects: their keys, their metadata, and the KMS keys behind them."""

    _KMS_ERRORS = {
        "Disabled": ("KMS.DisabledException", "{} is disabled."),
        "PendingDeletion": ("KMS.KMSInvalidStateException", "{} is pending deletion."),
        "PendingImport": ("KMS.KMSInvalidStateException", "{} is pending import."),
    }

    def limited(self, original: Handler) -> Handler:
        """A handler that refuses what S3 refuses. A page has at most `LISTED_KEYS` keys, whatever is asked for."""

        @functools.wraps(original)
        async def handle(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Any:
            try:
                self.check(method, path, headers, query_params)
            except Refused as refusal:
                document = f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message><RequestId>limits</RequestId></Error>"
                return refusal.status, {"Content-Type": "application/xml"}, b"" if method == "HEAD" else document.encode()
            if "max-keys" in query_params:
                query_params = {**query_params, "max-keys": [str(min(self._max_keys(query_params), LISTED_KEYS))]}
            return await original(method, path, headers, body, query_params)

        return handle

    def check(self, method: str, path: str, headers: dict, query_params: dict) -> None:
        """Raises `Refused` for an object that S3 does not take, or cannot read."""
        from ministack.services import s3

        bucket, key = s3._parse_bucket_key(path, headers)
        if not key:
            if "max-keys" in query_params:
                self._max_keys(query_params)
            return
        if len(key.encode()) > OBJECT_KEY_BYTES:
            raise Refused("KeyTooLongError", "Your key is too long")
        metadata = {name.removeprefix("x-amz-meta-"): value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        if sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items()) > OBJECT_METADATA_BYTES:
            raise Refused("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
        if method == "PUT" and not query_params.keys() - {"x-id"}:
            self._check_key(headers if headers.get("x-amz-server-side-encryption") else s3._bucket_default_sse_headers(bucket))
        elif method == "GET" and not query_params.keys() - {"x-id", "versionId"}:
            version = _text(query_params, "versionId")
            versions = {one["version_id"]: one for one in s3._object_versions.get((bucket, key), [])}
            found = versions.get(version) if version else (s3._buckets.get(bucket) or {}).get("objects", {}).get(key)
            self._check_key((found or {}).get("preserved_headers") or {})

    def _check_key(self, encryption: dict) -> None:
        """Raises `Refused` unless the key of this encryption can be used."""
        from ministack.services import kms

        name = encryption.get("x-amz-server-side-encryption-aws-kms-key-id", "")
        if encryption.get("x-amz-server-side-encryption") != "aws:kms" or not name or "alias/aws/" in name:
            return
        record = kms._resolve_key(name)
        if record is None:
            raise Refused("KMS.NotFoundException", f"Key '{name}' does not exist")
        if error := self._KMS_ERRORS.get(record["KeyState"]):
            raise Refused(error[0], error[1].format(record["Arn"]))

    @staticmethod
    def _max_keys(query_params: dict) -> int:
        text = _text(query_params, "max-keys")
        if not re.fullmatch(r"\d{1,10}", text):
            raise Refused("InvalidArgument", "Provided max-keys not an integer or within integer range")
        return int(text)


def _text(query_params: dict, name: str) -> str:
    value = query_params.get(name) or ""
    return str(value[0] if isinstance(value, list) else value)


def _characters(document: Any) -> int:
    text = document if isinstance(document, str) else json.dumps(document)
    return len("".join(text.split()))
