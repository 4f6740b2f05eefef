"""The demonstration: two tenants, one service, and changes that reach every replica in well under a second.

Every step is checked. The run is bounded, puts back what it changed, and exits 1 when a step was wrong.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterator

from launcher import aws, network
from launcher.settings import USERS, Settings
from seed import TENANT_A

FLAG = "tenant_config_featureFlagX"
TAX_RATE = "param_config_tax/rate"
ORDER = {"lines": [{"sku": "book", "quantity": 2, "unitPrice": "19.99"}]}
TARGET_MILLISECONDS = 1000
GIVE_UP_SECONDS = 30.0
POLL_SECONDS = 0.005


class StepFailed(Exception):
    """A step showed something other than it should."""


@dataclass(frozen=True)
class Person:
    """A signed-in user of one tenant."""

    email: str
    tenant: str
    token: str


def run(stack: Settings) -> int:
    """Runs all steps; 0 when each showed what it should."""
    try:
        alice, bert = _sign_in(stack)
        _read_the_same_key(stack, alice, bert)
        _cannot_read_across(stack, bert)
        _price_orders(stack, alice, bert)
        slow = _watch_changes(stack, alice)
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
    people = []
    for user in ("TENANT_A_USER", "TENANT_B_USER"):
        email, tenant, role = USERS[user]
        people.append(Person(email, tenant, aws.sign_in(stack, email)))
        print(f"   {email:<22} tenant {tenant}, {role}")
    return people


def _read_the_same_key(stack: Settings, *people: Person) -> None:
    _heading(f"2. Both ask for {FLAG}: API Gateway -> ALB -> config-service -> DynamoDB")
    values = []
    for person in people:
        answer = _expect(stack, person, FLAG, 200)
        values.append(answer["value"])
        print(f"   {person.tenant}  {answer['value']}")
        print(f"   {'':<8}  served by {answer['servedBy']} from {answer['source']}, version {answer['version']}")
    if len(set(values)) != len(values):
        raise StepFailed("both tenants were given the same value")


def _cannot_read_across(stack: Settings, bert: Person) -> None:
    _heading(f"3. Tenant {TENANT_A} has appSettingY; tenant {bert.tenant} asks for it")
    _expect(stack, bert, "tenant_config_appSettingY", 404)
    print("   404: to another tenant it does not exist. No request can name a tenant; the token decides.")


def _price_orders(stack: Settings, *people: Person) -> None:
    _heading("4. Both order two books at 19.99: order-service asks config-service over gRPC")
    for person in people:
        status, body = network.request(
            f"{stack.api_url}/v1/orders", method="POST", body=ORDER, headers=_bearer(person.token)
        )
        if status != 200:
            raise StepFailed(f"POST /v1/orders answered {status}: {body[:300].decode(errors='replace')}")
        print(f"   {person.tenant}  {_describe_order(json.loads(body))}")


def _watch_changes(stack: Settings, alice: Person) -> list[str]:
    """Changes a value at each source and watches it arrive; returns the changes that took too long."""
    _heading("5. Change each source with AWS's own API and watch the change arrive")
    print(f"   {'milliseconds from the write being acknowledged':<48}" + "".join(
        f"{replica.name:>10}" for replica in stack.config) + f"{'order':>10}")
    slow = []
    for title, change in (
        ("DynamoDB item, UpdateItem", _changed_item(stack)),
        ("Parameter Store, PutParameter", _changed_parameter(stack)),
    ):
        with change as (key, write, put_back):
            for label, action in ((f"{title}", write), ("  and back again", put_back)):
                times = _measure(stack, alice, key, action)
                good = all(milliseconds < TARGET_MILLISECONDS for milliseconds in times[:-1])
                print(f"   {label:<48}" + "".join(f"{value:>10.0f}" for value in times) + ("   ok" if good else "   SLOW"))
                if not good:
                    slow.append(title)
    return slow


Write = Callable[[], str]
"""Changes a source and returns the value that every replica must then show."""


@contextlib.contextmanager
def _changed_item(stack: Settings) -> Iterator[tuple[str, Write, Write]]:
    """Turns the variant of tenant A's feature flag, and leaves the item as it was."""
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
    """Raises the global tax rate, and leaves the parameter's value as it was."""
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


def _measure(stack: Settings, person: Person, key: str, write: Write) -> list[float]:
    """Milliseconds from the acknowledgement of a write until each replica, and then the order, showed it."""
    old_order = _order(stack, person)
    expected: list[str] = []
    watchers = [
        Watcher(replica.name, replica.address, replica.http, "GET", f"/v1/config/{key}", person,
                lambda answer: bool(expected) and _same(answer["value"], expected[0]))
        for replica in stack.config
    ]
    watchers.append(
        Watcher("the order", stack.order.address, stack.order.http, "POST", "/v1/orders", person,
                lambda answer: answer["total"] != old_order["total"])
    )
    for watcher in watchers:
        watcher.start()
    try:
        value = write()
        acknowledged = time.monotonic()
        expected.append(value)
        for watcher in watchers:
            watcher.join(GIVE_UP_SECONDS)
    finally:
        for watcher in watchers:
            watcher.stop()
    for watcher in watchers:
        if watcher.seen is None:
            raise StepFailed(f"{watcher.name} did not show the change within {GIVE_UP_SECONDS:.0f} s{watcher.problem}")
    return [max(0.0, watcher.seen - acknowledged) * 1000 for watcher in watchers]


class Watcher(threading.Thread):
    """Asks one service again and again, past the edge, until its answer shows the change."""

    def __init__(
        self, name: str, host: str, port: int, method: str, path: str, person: Person, shows: Callable[[Any], bool]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.seen: float | None = None
        self.problem = ""
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
                if answer.status == 200 and self._shows(json.loads(body)):
                    self.seen = time.monotonic()
                elif answer.status != 200:
                    self.problem = f" (it answered {answer.status})"
            except (OSError, http.client.HTTPException) as error:
                self.problem = f" ({error})"
                connection.close()
            self._stopped.wait(POLL_SECONDS)
        connection.close()

    def stop(self) -> None:
        self._stopped.set()


def _expect(stack: Settings, person: Person, key: str, status: int) -> dict[str, Any]:
    """A signed-in read through the edge, which must have this status."""
    found, body = aws.get_with_token(f"{stack.api_url}/v1/config/{key}?freshness=true", person.token)
    if found != status:
        raise StepFailed(
            f"GET /v1/config/{key} as {person.email} answered {found or 'nothing'} instead of {status}: "
            f"{body[:300].decode(errors='replace')}"
        )
    return json.loads(body)


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
    """Whether both are the same value, whatever the spacing of the JSON."""
    try:
        return json.loads(shown) == json.loads(written)
    except ValueError:
        return shown == written


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _heading(text: str) -> None:
    print(f"\n{text}")
