"""Explains why calls were denied: who, what, on which resource, and which policy would have to allow it."""

from __future__ import annotations

import collections
import json
import re
from typing import Iterator

import iam_enforcement  # beside stack.py

from . import network
from .settings import Settings

ROLES = {
    "config-service": "terraform/modules/services/roles.tf",
    "order-service": "terraform/modules/services/roles.tf",
    "execution": "terraform/modules/services/roles.tf",
    "invalidator": "terraform/modules/refresh/iam.tf",
    "load-test": "terraform/modules/load_test/role/main.tf",
    "deployer": "terraform/deployer",
}
"""The files with the policies of each role, by the end of the role's name."""
ENDPOINTS = "terraform/modules/network/endpoint_statements/outputs.tf"


def explain(settings: Settings) -> list[str]:
    """A paragraph for each kind of denial since the emulator started, in order. Empty if there was none."""
    status, body = network.request(settings.emulator_url + iam_enforcement.PATH, timeout_seconds=5)
    denials = json.loads(body)["denials"] if status == 200 else []
    kinds: collections.OrderedDict[tuple, list[str]] = collections.OrderedDict()
    for denial in denials:
        kind = (denial["principal"], denial["action"], denial["resource"], denial["reason"])
        kinds.setdefault(kind, []).append(denial["at"])
        kinds.move_to_end(kind)
    return ["\n".join(_paragraph(*kind, times)) for kind, times in kinds.items()]


def _paragraph(principal: str, action: str, resource: str, reason: str, times: list[str]) -> Iterator[str]:
    often = f", {len(times)} times" if len(times) > 1 else ""
    yield f"{times[-1]}{often}"
    yield f"  who       {principal}"
    yield f"  what      {action}"
    if resource:
        yield f"  resource  {resource}"
    yield f"  why       {reason}"
    yield f"  to allow  {remedy(principal, action, resource, reason)}"


def remedy(principal: str, action: str, resource: str, reason: str) -> str:
    """The remedy: what would allow the call."""
    statement = f"{action} on {resource}"
    role = re.search(r":assumed-role/([^/]+)/", principal)
    name = role[1] if role else principal.rsplit("/", 1)[-1]
    file = next((file for ending, file in ROLES.items() if name.endswith(ending)), None)
    where = f"role {name}" + (f" ({file})" if file else "")
    if "no VPC endpoint for" in reason:
        return f"an endpoint for that service, with {statement} in its policy ({ENDPOINTS})"
    if "no VPC endpoint policy" in reason:
        return f"{statement} in the policy of the service's VPC endpoint ({ENDPOINTS})"
    if "explicit deny" in reason:
        return f"nothing, while the deny stands: {reason.removeprefix('with an explicit ')} of {where}"
    if "permissions boundary" in reason:
        return f"{statement} in the permissions boundary of {where}, and in its own policy"
    if "session policy" in reason:
        return f"{statement} in the policy that the session of {where} was opened with"
    if "resource-based policy" in reason:
        return f"{statement} in the policy of the resource itself (a key's policy must name its account, or {where})"
    if "no identity-based policy" in reason:
        return f"{statement} in a policy of {where}; and the VPC endpoint's policy must allow it, too, if a task calls ({ENDPOINTS})"
    return "credentials that the emulator has given: `make -s local-env` prints the account's root, `stack.py credentials ROLE` a role's"
