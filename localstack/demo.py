"""The demonstration: two tenants, one service, and changes that reach every replica in well under a second.

It checks every step, ends within a bounded time, restores what it changed, and exits 1 when a step was wrong.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Callable, Iterator

from launcher import aws, network
from launcher.settings import USERS, Settings
from seed import TENANT_A

FLAG = "tenant_config_featureFlagX"
TAX_RATE = "param_config_tax/rate"
BLOB = "blob_config_pricing/table.json"
SECRET = "secret_config_payment/api-key"
RAW = ":raw"
LIMITS = "tenant_config_demo-limits"
LIMITS_SCHEMA = f"schema_config_{LIMITS}"
WAIT = "?wait_for_tasks=true"
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"maxLines": {"type": "integer", "minimum": 1}, "currency": {"enum": ["EUR", "USD"]}},
    "required": ["maxLines", "currency"],
}
"""Of `LIMITS`."""
GOOD = {"maxLines": 100, "currency": "EUR"}
MISTAKE = GOOD | {"maxLines": 1}
NOTE = "fewer lines in an order (DEMO-1)"
ORDER = {"lines": [{"sku": "book", "quantity": 2, "unitPrice": "19.99"}]}
TARGET_MILLISECONDS = 1000
GIVE_UP_SECONDS = 30.0
INDENT = " " * 26
POLL_SECONDS = 0.005


class StepFailed(Exception):
    """A step did not show what it should."""


@dataclass(frozen=True)
class Person:
    """A signed-in user of one tenant."""

    email: str
    tenant: str
    token: str


def run(stack: Settings) -> int:
    """Runs all steps. Returns 0 if each showed what it should."""
    try:
        alice, bert = _sign_in(stack)
        _read_the_same_key(stack, alice, bert)
        _cannot_read_across(stack, bert)
        _price_orders(stack, alice, bert)
        slow = _watch_changes(stack, alice)
        tags = {"blob_bucket": _replace_an_object, "secret_root": _rotate_a_secret}
        more = [step for output, step in tags.items() if stack.optional(output)] + [_undo_a_mistake]
        for number, step in enumerate(more, 6):
            slow += step(stack, number, alice)
    except (StepFailed, *aws.AwsError) as error:
        print(f"\nFAIL  {error}")
        return 1
    if slow:
        print(f"\nFAIL  a replica needed {TARGET_MILLISECONDS} ms or more for: {', '.join(slow)}")
        return 1
    print(f"\nPASS  every change was on both replicas in less than {TARGET_MILLISECONDS} ms, with a cache TTL of 5 minutes")
    return 0


def _sign_in(stack: Settings) -> list[Person]:
    _heading("1. Sign in through Cognito")
    people = [_person(stack, user) for user in ("TENANT_A_USER", "TENANT_B_USER")]
    for person in people:
        print(f"   {person.email:<22} tenant {person.tenant}, writer")
    return people


def _person(stack: Settings, user: str) -> Person:
    email, tenant, _ = USERS[user]
    return Person(email, tenant, aws.sign_in(stack, email))


def _read_the_same_key(stack: Settings, *people: Person) -> None:
    _heading(f"2. Both read {FLAG}: API Gateway -> ALB -> config-service -> DynamoDB")
    values = []
    for person in people:
        answer = _expect(stack, person, FLAG, 200)
        values.append(answer["value"])
        print(f"   {person.tenant}  {answer['value']}")
        print(f"   {'':<8}  served by {answer['servedBy']} from {answer['source']}, version {answer['version']}")
    if len(set(values)) != len(values):
        raise StepFailed("both tenants were given the same value")


def _cannot_read_across(stack: Settings, bert: Person) -> None:
    _heading(f"3. Tenant {TENANT_A} has appSettingY; tenant {bert.tenant} reads it")
    _expect(stack, bert, "tenant_config_appSettingY", 404)
    print("   404: to another tenant it does not exist. No request can name a tenant; the token decides.")


def _price_orders(stack: Settings, *people: Person) -> None:
    _heading("4. Both order two books at 19.99: order-service reads from config-service over gRPC")
    for person in people:
        status, body = network.request(
            f"{stack.api_url}/v1/orders", method="POST", body=ORDER, headers=_bearer(person.token)
        )
        if status != 200:
            raise StepFailed(f"POST /v1/orders answered {status}: {body[:300].decode(errors='replace')}")
        print(f"   {person.tenant}  {_describe_order(json.loads(body))}")


def _watch_changes(stack: Settings, alice: Person) -> list[str]:
    """Changes a value at each source and watches it arrive. Returns the changes that took too long."""
    _heading("5. Change each source with AWS's own API and watch the change arrive")
    print(f"   {'milliseconds from the write being acknowledged':<48}" + "".join(
        f"{replica.name:>10}" for replica in stack.config) + f"{'order':>10}")
    return [
        *_timed(stack, alice, "DynamoDB item, UpdateItem", _changed_item(stack), with_order=True),
        *_timed(stack, alice, "Parameter Store, PutParameter", _changed_parameter(stack), with_order=True),
    ]


def _replace_an_object(stack: Settings, number: int, alice: Person) -> list[str]:
    """Reads a blob as it is, and replaces it by S3's own API. Returns the changes that took too long."""
    _heading(f"{number}. {alice.tenant} reads {BLOB} as it is: an object in S3")
    status, body = aws.get_with_token(f"{stack.api_url}/v1/config/{BLOB}{RAW}", alice.token)
    if status != 200:
        raise StepFailed(f"GET /v1/config/{BLOB}{RAW} answered {status}: {body[:300].decode(errors='replace')}")
    print(f"   {alice.tenant}  {body.decode()}")
    return _timed(stack, alice, "S3 object, PutObject", _changed_object(stack))


def _rotate_a_secret(stack: Settings, number: int, _: Person) -> list[str]:
    """Shows who may read a secret, and a new value of it. Returns the changes that took too long."""
    _heading(f"{number}. {SECRET}: a secret of Secrets Manager, for administrators")
    reader, admin = _person(stack, "TENANT_A_READER"), _person(stack, "TENANT_A_ADMIN")
    _expect(stack, reader, SECRET, 403)
    print(f"   {reader.email:<22} 403")
    value = _expect(stack, admin, SECRET, 200)["value"]
    print(f"   {admin.email:<22} {value[:8]}...")
    return _timed(stack, admin, "Secrets Manager, PutSecretValue", _changed_secret(stack))


def _undo_a_mistake(stack: Settings, number: int, alice: Person) -> list[str]:
    """Safe changes: a schema refuses a value, the history names a change, a rollback undoes it, an edit past the service is not
    served. Returns the changes that took too long."""
    _heading(f"{number}. Safe changes of {LIMITS}: a schema, the history, a rollback")
    admin = _person(stack, "TENANT_A_ADMIN")
    _remove_limits(stack, admin)
    try:
        written = _write(stack, admin, "PUT", LIMITS_SCHEMA + WAIT, SCHEMA, 200, 201)
        print(f"   {admin.email:<22} PUT {LIMITS_SCHEMA}\n{INDENT}{_live(stack, written)}")
        _break_the_schema(stack, alice)
        first = _write(stack, alice, "PUT", LIMITS, GOOD, 200, 201)["version"]
        print(f"   {alice.email:<22} PUT {json.dumps(GOOD)}: version {first}")
        return [
            *_make_a_mistake(stack, alice),
            *_roll_back(stack, alice, _before_the_mistake(stack, alice, first)),
            *_edit_past_the_service(stack, alice),
        ]
    finally:
        _remove_limits(stack, admin)


def _break_the_schema(stack: Settings, alice: Person) -> None:
    """A value that breaks the schema is refused, with a JSON pointer to each thing that is wrong, and nothing changes."""
    broken = {"maxLines": "many", "currency": "GBP"}
    violations = _write(stack, alice, "PUT", LIMITS, broken, 422).get("violations", [])
    print(f"   {alice.email:<22} PUT {json.dumps(broken)}: 422")
    for violation in violations:
        print(f"{INDENT}{violation['pointer']}  {violation['message']}")
    if {violation["pointer"] for violation in violations} != {"/maxLines", "/currency"}:
        raise StepFailed(f"the answer 422 does not point to what is wrong: {violations}")
    _expect(stack, alice, LIMITS, 404)


def _make_a_mistake(stack: Settings, alice: Person) -> list[str]:
    """Writes a wrong value that the schema allows. Returns its name if a replica needed too long."""

    def put() -> str:
        _write(stack, alice, "PUT", LIMITS, MISTAKE, 200, note=NOTE)
        return json.dumps(MISTAKE)

    print(f"   {alice.email:<22} PUT {json.dumps(MISTAKE)}: a mistake that the schema allows")
    return [] if _arrives(stack, alice, LIMITS, "PUT", put) else ["the mistake"]


def _before_the_mistake(stack: Settings, alice: Person, first: int) -> int:
    """Finds the mistake in the history: who made it, when, and why. Returns the version that it replaced."""
    entries = _expect(stack, alice, f"{LIMITS}:history", 200)["entries"][:2]
    found = [(entry["operation"], entry["note"], bool(entry["by"] and entry["at"])) for entry in entries]
    if found != [("put", NOTE, True), ("put", "", True)] or entries[0].get("previousVersion") != first:
        raise StepFailed(f"the history of {LIMITS} does not begin with the mistake and what it replaced: {entries}")
    mistake = entries[0]
    print(f"   {alice.email:<22} GET {LIMITS}:history")
    print(f"{INDENT}{mistake['at']}  {mistake['role']} {mistake['by'][:8]}  {mistake['operation']}, version {mistake['version']}")
    print(f"{INDENT}{mistake['note']}")
    return mistake["previousVersion"]


def _roll_back(stack: Settings, alice: Person, version: int) -> list[str]:
    """Writes an earlier version again, and waits for the tasks: so the time is from the request. Returns its name if a replica
    needed too long."""
    done: dict[str, Any] = {}

    def roll_back() -> str:
        done.update(_write(stack, alice, "POST", f"{LIMITS}:rollback", {"version": version, "waitForTasks": True}, 200))
        return json.dumps(GOOD)

    print(f"   {alice.email:<22} POST {LIMITS}:rollback to version {version}")
    in_time = _arrives(stack, alice, LIMITS, "POST :rollback, from the request", roll_back, from_request=True)
    print(f"{INDENT}{_live(stack, done)}")
    return [] if in_time else ["the rollback"]


def _edit_past_the_service(stack: Settings, alice: Person) -> list[str]:
    """An edit with AWS's own API that breaks the schema is not served: the last good value is, and says so, until a PUT mends it.
    Returns what took too long."""
    broken = json.dumps(GOOD | {"maxLines": -1})

    def edit() -> str:
        aws.client(stack, "dynamodb").update_item(
            TableName=stack.output("table_name"),
            Key={"PK": {"S": f"TENANT#{TENANT_A}"}, "SK": {"S": f"CONFIG#{LIMITS.removeprefix('tenant_config_')}"}},
            UpdateExpression="SET configValue = :value",
            ExpressionAttributeValues={":value": {"S": broken}},
        )
        return json.dumps(GOOD)

    def mend() -> str:
        _write(stack, alice, "PUT", LIMITS, GOOD, 200)
        return json.dumps(GOOD)

    def is_guarded(body: bytes, good: str) -> bool:
        answer = json.loads(body)
        if not _same(answer["value"], good):
            raise StepFailed(f"{LIMITS} was served with a value that breaks its schema: {answer['value']}")
        return answer.get("invalidNewVersion", False)

    def is_mended(body: bytes, good: str) -> bool:
        return not json.loads(body).get("invalidNewVersion", False) and _shows(body, good)

    print(f"   past the service       UpdateItem, {broken}: not served, invalidNewVersion instead")
    edited = _arrives(stack, alice, LIMITS, "UpdateItem, until the answers say so", edit, shows=is_guarded)
    mended = _arrives(stack, alice, LIMITS, "  and mended with PUT", mend, shows=is_mended)
    return [] if edited and mended else ["the edit past the service"]


def _live(stack: Settings, written: dict[str, Any]) -> str:
    """What the service says of a write that waited for the tasks: it is live on all."""
    tasks = written.get("tasks", {})
    if not tasks.get("live") or len(tasks["tasks"]) != len(stack.config):
        raise StepFailed(f"a write is not live on {len(stack.config)} tasks: {tasks}")
    return tasks["summary"]


def _remove_limits(stack: Settings, admin: Person) -> None:
    """Removes what the step has made, as far as it is there."""
    for key in (LIMITS, LIMITS_SCHEMA):
        _write(stack, admin, "DELETE", key + WAIT, None, 200, 404)


def _timed(
    stack: Settings, person: Person, title: str, change: contextlib.AbstractContextManager, with_order: bool = False
) -> list[str]:
    """Makes a change and takes it back. Returns its title if a replica needed too long."""
    with change as (key, write, put_back):
        actions = {title: write, "  and back again": put_back}
        return [title for label, action in actions.items() if not _arrives(stack, person, key, label, action, with_order)]


Write = Callable[[], str]
"""Changes a source and returns the value that every replica must then show."""
Shows = Callable[[bytes, str], bool]
"""Whether an answer shows this value; `StepFailed` if it shows what it never may."""


def _shows(body: bytes, value: str) -> bool:
    return _same(json.loads(body)["value"], value)


def _shows_raw(body: bytes, value: str) -> bool:
    return _same(body.decode(), value)


def _arrives(
    stack: Settings, person: Person, key: str, label: str, write: Write, with_order: bool = False, *, shows: Shows | None = None,
    from_request: bool = False,
) -> bool:
    """Makes a change and prints when each replica had it. Returns whether that was in time."""
    shows = shows or (_shows_raw if key.endswith(RAW) else _shows)
    times = _measure(stack, person, key, write, shows, with_order, from_request)
    good = all(milliseconds < TARGET_MILLISECONDS for milliseconds in times[:len(stack.config)])
    print(f"   {label:<48}" + "".join(f"{value:>10.0f}" for value in times) + ("   ok" if good else "   SLOW"))
    return good


@contextlib.contextmanager
def _changed_item(stack: Settings) -> Iterator[tuple[str, Write, Write]]:
    """Changes the variant of tenant A's feature flag, and restores the item afterwards."""
    dynamodb = aws.client(stack, "dynamodb")
    table = stack.output("table_name")
    item_key = {"PK": {"S": f"TENANT#{TENANT_A}"}, "SK": {"S": "CONFIG#featureFlagX"}}
    before = dynamodb.get_item(TableName=table, Key=item_key, ConsistentRead=True)["Item"]
    original = before["configValue"].get("S", "")
    flag = json.loads(original)
    flag |= {"enabled": True, "variant": "control" if flag.get("variant") == "treatment" else "treatment"}

    def update(value: str) -> str:
        dynamodb.update_item(
            TableName=table,
            Key=item_key,
            UpdateExpression="SET configValue = :value",
            ExpressionAttributeValues={":value": {"S": value}},
        )
        return value

    try:
        yield FLAG, lambda: update(json.dumps(flag)), lambda: update(original)
    finally:
        now = dynamodb.get_item(TableName=table, Key=item_key, ConsistentRead=True)["Item"]
        if now != before:
            dynamodb.put_item(TableName=table, Item=before)


@contextlib.contextmanager
def _changed_parameter(stack: Settings) -> Iterator[tuple[str, Write, Write]]:
    """Raises the global tax rate, and restores the parameter's value afterwards."""
    ssm = aws.client(stack, "ssm")
    name = f"{stack.output('parameter_root').rstrip('/')}/global/tax/rate"
    original = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    other = "0.25" if original != "0.25" else "0.20"

    def put(value: str) -> str:
        ssm.put_parameter(Name=name, Value=value, Overwrite=True)
        return value

    try:
        yield TAX_RATE, lambda: put(other), lambda: put(original)
    finally:
        if ssm.get_parameter(Name=name)["Parameter"]["Value"] != original:
            put(original)


@contextlib.contextmanager
def _changed_object(stack: Settings) -> Iterator[tuple[str, Write, Write]]:
    """Replaces tenant A's price table, and restores its content afterwards."""
    s3 = aws.client(stack, "s3")
    place = {"Bucket": stack.output("blob_bucket"), "Key": f"tenants/{TENANT_A}/pricing/table.json"}
    read = lambda: s3.get_object(**place)["Body"].read().decode()
    original = read()
    other = json.dumps({**json.loads(original), "book": "16.99", "revision": uuid.uuid4().hex})

    def put(value: str) -> str:
        s3.put_object(**place, Body=value.encode())
        return value

    try:
        yield BLOB + RAW, lambda: put(other), lambda: put(original)
    finally:
        if read() != original:
            put(original)


@contextlib.contextmanager
def _changed_secret(stack: Settings) -> Iterator[tuple[str, Write, Write]]:
    """Gives tenant A's secret another value, and restores the old one afterwards."""
    secrets = aws.client(stack, "secretsmanager")
    name = f"{stack.output('secret_root')}/tenants/{TENANT_A}/payment/api-key"
    original = secrets.get_secret_value(SecretId=name)["SecretString"]

    def put(value: str) -> str:
        secrets.put_secret_value(SecretId=name, SecretString=value)
        return value

    try:
        yield SECRET, lambda: put(f"sk_test_{uuid.uuid4().hex}"), lambda: put(original)
    finally:
        if secrets.get_secret_value(SecretId=name)["SecretString"] != original:
            put(original)


def _measure(
    stack: Settings, person: Person, key: str, write: Write, shows: Shows, with_order: bool, from_request: bool
) -> list[float]:
    """Milliseconds from the acknowledgement of a write, or from its request, until each replica, and then the order, showed it."""
    expected: list[str] = []
    watchers = [
        Watcher(replica.name, replica.address, replica.http, "GET", f"/v1/config/{key}", person,
                lambda body: bool(expected) and shows(body, expected[0]))
        for replica in stack.config
    ]
    if with_order:
        old_order = _order(stack, person)
        watchers.append(
            Watcher("the order", stack.order.address, stack.order.http, "POST", "/v1/orders", person,
                    lambda body: json.loads(body)["total"] != old_order["total"])
        )
    for watcher in watchers:
        watcher.start()
    try:
        requested = time.monotonic()
        value = write()
        began = requested if from_request else time.monotonic()
        expected.append(value)
        for watcher in watchers:
            watcher.join(GIVE_UP_SECONDS)
    finally:
        for watcher in watchers:
            watcher.stop()
    for watcher in watchers:
        if watcher.wrong:
            raise watcher.wrong
        if watcher.seen is None:
            raise StepFailed(f"{watcher.name} did not show the change within {GIVE_UP_SECONDS:.0f} s{watcher.problem}")
    return [max(0.0, watcher.seen - began) * 1000 for watcher in watchers]


class Watcher(threading.Thread):
    """Polls one service, past the edge, until its answer shows the change."""

    def __init__(
        self, name: str, host: str, port: int, method: str, path: str, person: Person, shows: Callable[[bytes], bool]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.seen: float | None = None
        self.problem = ""
        self.wrong: StepFailed | None = None
        self._host, self._port = host, port
        self._method, self._path, self._shows = method, path, shows
        self._headers = _bearer(person.token) | {"Content-Type": "application/json"}
        self._body = json.dumps(ORDER) if method == "POST" else None
        self._stopped = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=5)
        while self.seen is None and not self._stopped.is_set():
            try:
                connection.request(self._method, self._path, body=self._body, headers=self._headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200 and self._shows(body):
                    self.seen = time.monotonic()
                elif answer.status != 200:
                    self.problem = f" (it answered {answer.status})"
            except (OSError, http.client.HTTPException) as error:
                self.problem = f" ({error})"
                connection.close()
            except StepFailed as wrong:
                self.wrong = wrong
                break
            self._stopped.wait(POLL_SECONDS)
        connection.close()

    def stop(self) -> None:
        self._stopped.set()


def _expect(stack: Settings, person: Person, key: str, status: int) -> dict[str, Any]:
    """Reads through the edge with the person's token. The answer must have this status."""
    found, body = aws.get_with_token(f"{stack.api_url}/v1/config/{key}", person.token)
    if found != status:
        raise StepFailed(
            f"GET /v1/config/{key} as {person.email} answered {found or 'nothing'} instead of {status}: "
            f"{body[:300].decode(errors='replace')}"
        )
    return json.loads(body)


def _write(
    stack: Settings, person: Person, method: str, path: str, body: Any, *statuses: int, note: str = ""
) -> dict[str, Any]:
    """Changes a key through the edge with the person's token. The answer must have one of these statuses."""
    headers = _bearer(person.token) | ({"X-Change-Note": note} if note else {})
    found, answer = network.request(f"{stack.api_url}/v1/config/{path}", method=method, headers=headers, body=body)
    if found not in statuses:
        wanted = " or ".join(map(str, statuses))
        raise StepFailed(
            f"{method} /v1/config/{path} as {person.email} answered {found or 'nothing'} instead of {wanted}: "
            f"{answer[:300].decode(errors='replace')}"
        )
    return json.loads(answer) if answer else {}


def _order(stack: Settings, person: Person) -> dict[str, Any]:
    status, body = network.request(
        f"http://{stack.order.http_address}/v1/orders", method="POST", body=ORDER, headers=_bearer(person.token)
    )
    if status != 200:
        raise StepFailed(f"POST /v1/orders answered {status}: {body[:300].decode(errors='replace')}")
    return json.loads(body)


def _describe_order(order: dict[str, Any]) -> str:
    flag = order["featureFlag"]
    variant = f"variant {flag['variant']}" if flag.get("enabled") and flag.get("variant") else "flag off"
    return (
        f"{order['subtotal']} - {order['discount']} discount ({variant}) "
        f"+ {order['tax']} tax (rate {order['taxRate']}) = {order['total']} {order['currency']}"
    )


def _same(shown: str, written: str) -> bool:
    """Whether both are the same value, apart from the spacing of the JSON."""
    try:
        return json.loads(shown) == json.loads(written)
    except ValueError:
        return shown == written


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _heading(text: str) -> None:
    print(f"\n{text}")
