"""Whether what was deployed answers: a request goes all the way to a task and back, and one without a token does not."""

from __future__ import annotations

import time

from launcher import network
from launcher.errors import StackError
from launcher.progress import Step

HEALTH = "/v1/health"
PRIVATE = "/v1/config/tenant_config_x"
LIMIT_SECONDS = 300
PAUSE_SECONDS = 5

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
            status, body = network.request(f"{api_url}{path}", headers={"User-Agent": "tagged-config-deploy"}, proxied=True)
            if good(status, body):
                break
            if time.monotonic() >= deadline:
                raise StackError(f"{api_url}{path} should answer {wanted}, but: {_said(status, body)}. Likely: {_hop(status)}")
            step.activity(f"{path}: {_said(status, body)}; a new stack needs some minutes")
            time.sleep(pause_seconds)
    return f"{api_url} reaches a task, and refuses callers without a token"


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
