"""Whether what was deployed answers: a request goes all the way to a task and back, one without a token does not, and what
a signed-in user writes is seen by every task."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Mapping

from launcher import network
from launcher.errors import StackError
from launcher.progress import Step

HEALTH = "/v1/health"
PRIVATE = "/v1/config/tenant_config_x"
KEY = "/v1/config/tenant_config_smoke_test"
LIMIT_SECONDS = 300
PAUSE_SECONDS = 5
REACH_SECONDS = 60
"""For requests to have met every task."""
EVENT_SECONDS = 15
"""For a change to be seen by every task: less than `cache_ttl`, after which a task reads the value anew without any event."""
AT_ONCE = 8
HEADERS = {"User-Agent": "tagged-config-deploy"}

# The way is: web ACL -> API -> VPC link -> load balancer -> task.
HOPS = {
    0: "this machine did not reach API Gateway: the name is not known here yet, or a proxy or firewall is in the way",
    401: "the API asks for a token here too: its stage still serves an older deployment without this path",
    403: "the web ACL blocks this machine's address (log group aws-waf-logs-*), or the API has no such stage",
    404: "the API or the load balancer knows no such path: an older deployment of the stage, or a listener rule that "
    "does not match (TAGGED_CONFIG_PATH_PREFIX, the stage's name)",
    429: "the API's throttle: something else uses up its requests",
    500: "API Gateway itself: its integration is not usable (the VPC link's state, or the URI and target of the integration)",
    502: "between VPC link and load balancer (security groups edge -> alb, listener, certificate), or a task that hangs up",
    503: "the load balancer has no healthy task (events of the ECS service, the tasks' log group), or the VPC link is not "
    "available yet",
    504: "no answer in time: a security group drops packets (edge -> alb, alb -> services), or a task hangs",
}


def test(api_url: str, step: Step, *, limit_seconds: float = LIMIT_SECONDS, pause_seconds: float = PAUSE_SECONDS) -> str:
    """Raises with the hop that is likely to be broken. A new stack gets time: names, links and targets take minutes."""
    for path, good, wanted in ((HEALTH, _is_healthy, "200 and `ok`"), (PRIVATE, _is_refused, "401 without a token")):
        deadline = time.monotonic() + limit_seconds
        while True:
            status, body = network.request(f"{api_url}{path}", headers=HEADERS, proxied=True)
            if good(status, body):
                break
            if time.monotonic() >= deadline:
                raise StackError(f"{api_url}{path} should answer {wanted}, but: {_said(status, body)}. Likely: {_hop(status)}")
            step.activity(f"{path}: {_said(status, body)}; a new stack needs some minutes")
            time.sleep(pause_seconds)
    return f"{api_url} reaches a task, and refuses callers without a token"


class Caller:
    """A signed-in caller of the API."""

    def __init__(self, api_url: str, token: str) -> None:
        self._url = f"{api_url}{KEY}"
        self._headers = HEADERS | {"Authorization": f"Bearer {token}"}

    def get(self) -> tuple[int, bytes]:
        """The key as some task has it."""
        return network.request(f"{self._url}?freshness=true", headers=self._headers, proxied=True)

    def put(self, value: int) -> int:
        """Writes the key; its version."""
        status, body = network.request(self._url, method="PUT", headers=self._headers, body=value, proxied=True)
        if status not in (200, 201):
            raise StackError(f"PUT {KEY} should answer 200 or 201, but: {_said(status, body)}. {_hop(status)}")
        return json.loads(body)["version"]

    def delete(self) -> tuple[int, bytes]:
        """Deletes the key."""
        return network.request(self._url, method="DELETE", headers=self._headers, proxied=True)


def exercise(
    caller: Caller, running: Callable[[], int], step: Step, *,
    limit_seconds: float = REACH_SECONDS, event_seconds: float = EVENT_SECONDS, pause_seconds: float = PAUSE_SECONDS,
) -> str:
    """Reads, writes, and sees that a change reaches every one of the `running` tasks. The key is deleted in any case."""
    deadline = time.monotonic() + limit_seconds
    while True:
        status, body = caller.get()
        # 404 not-found proves that the token was accepted and the table was read.
        if status == 404 and b"urn:tagged-config:problem:not-found" in body:
            break
        if time.monotonic() >= deadline:
            why = "the authorizer or the tasks refuse a valid token" if status in (401, 403) else _hop(status)
            raise StackError(f"GET {KEY} with a token should answer 404 not-found, but: {_said(status, body)}. Likely: {why}")
        step.activity(f"GET with a token: {_said(status, body)}")
        time.sleep(pause_seconds)
    try:
        # Only a task that holds the first version can show that the second one was announced to it.
        tasks = _ask_until(caller, caller.put(1), lambda seen: len(seen) >= running(), limit_seconds, step)
        if len(tasks) < running():
            raise StackError(
                f"only {len(tasks)} of {running()} tasks answered within {limit_seconds:.0f} s ({', '.join(sorted(tasks))}): the load "
                "balancer sends nothing to the others (health of its targets, zones)"
            )
        version, started = caller.put(2), time.monotonic()
        seen = _ask_until(caller, version, lambda seen: seen >= tasks, event_seconds, step)
        if not seen >= tasks:
            raise StackError(
                f"a change was not seen by {', '.join(sorted(tasks - seen))} within {event_seconds:.0f} s: neither the invalidator's "
                "call nor the journal reached it (log groups of the invalidator and the service, alarm sweep-failures)"
            )
        return f"a signed-in user's change was seen by all {len(tasks)} tasks within {time.monotonic() - started:.1f} s"
    finally:
        status, body = caller.delete()
        if status not in (200, 404):
            step.activity(f"DELETE {KEY}: {_said(status, body)}; the value of the throw-away tenant stays")


def running_tasks(ecs: Any, outputs: Mapping) -> int:
    """How many tasks serve the configuration."""
    answer = ecs.describe_services(cluster=outputs["cluster_name"], services=["config-service"])
    return answer["services"][0]["runningCount"]


def _ask_until(caller: Caller, version: int, enough: Callable[[set[str]], bool], limit_seconds: float, step: Step) -> set[str]:
    """The tasks that have answered with this version or a newer one."""
    seen: set[str] = set()
    deadline = time.monotonic() + limit_seconds
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while not enough(seen) and time.monotonic() < deadline:
            for status, body in pool.map(lambda _: caller.get(), range(AT_ONCE)):
                entry = json.loads(body) if status == 200 else {}
                if entry.get("version", -1) >= version:
                    seen.add(entry["servedBy"])
            step.activity(f"version {version}: seen by {len(seen)} tasks")
    return seen


def _is_healthy(status: int, body: bytes) -> bool:
    return (status, body.strip()) == (200, b"ok")


def _is_refused(status: int, _: bytes) -> bool:
    if 200 <= status < 300:
        raise StackError(f"{PRIVATE} answers {status} without a token: the authorizer is not on this path")
    return status == 401


def _said(status: int, body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())[:200]
    return f"{status or 'no answer'} {text}".rstrip()


def _hop(status: int) -> str:
    return HOPS.get(status, "something else answers at this address")
