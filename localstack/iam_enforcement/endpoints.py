"""VPC endpoints: which one a call leaves through, and what its policy allows.

A call of a task, or of a function in a VPC, leaves through the endpoint of the service that it calls. Without one it
would time out on AWS, in a VPC without a NAT gateway; here it is denied. Callers outside a VPC need no endpoint.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from types import ModuleType
from typing import Callable
from xml.sax.saxutils import escape

_NAMES = {
    "apigatewayv2": "execute-api", "cloudwatch": "monitoring", "ecr": "ecr.api", "states": "states",
}
"""Endpoint services that are not called as MiniStack calls the service."""
_EVERYTHING = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
"""The policy of an endpoint that was made without one."""


@dataclass(frozen=True)
class VpcEndpoint:
    """One endpoint."""

    id: str
    vpc_id: str
    policy: dict


class VpcEndpoints:
    """The endpoints that the emulated EC2 knows."""

    def __init__(self, ec2: ModuleType) -> None:
        self._ec2 = ec2

    def find(self, vpc_id: str, service: str, action: str, region: str) -> VpcEndpoint | None:
        """The endpoint of the VPC through which this action of a service leaves."""
        wanted = f"com.amazonaws.{region}.{self.service_name(service, action)}"
        for endpoint in list(self._ec2._vpc_endpoints.values()):
            if endpoint["VpcId"] == vpc_id and endpoint["ServiceName"] == wanted:
                return VpcEndpoint(endpoint["VpcEndpointId"], vpc_id, _document(endpoint.get("PolicyDocument")))
        return None

    @staticmethod
    def service_name(service: str, action: str) -> str:
        """The name of the endpoint's service. Discovery of instances has an endpoint of its own."""
        if service == "servicediscovery":
            return "data-servicediscovery" if ":DiscoverInstances" in action else service
        return _NAMES.get(service, service)

    def vpc_of_subnets(self, subnet_ids: list[str]) -> str:
        """The VPC that the first of these subnets is in, or nothing."""
        subnet = self._ec2._subnets.get(subnet_ids[0]) if subnet_ids else None
        return (subnet or {}).get("VpcId", "")


def _document(text: str | None) -> dict:
    return json.loads(text) if text else _EVERYTHING


def install(ec2: ModuleType) -> None:
    """Keeps the policy of an endpoint, which MiniStack drops when the endpoint is made, and describes it."""
    ec2._create_vpc_endpoint = ec2._ACTION_MAP["CreateVpcEndpoint"] = _keeping_policy(ec2._create_vpc_endpoint, ec2)
    ec2._vpce_fields_xml = _with_policy(ec2._vpce_fields_xml)


def _keeping_policy(original: Callable[[dict], tuple], ec2: ModuleType) -> Callable[[dict], tuple]:
    @functools.wraps(original)
    def create(p: dict) -> tuple:
        policy = ec2._p(p, "PolicyDocument")
        try:
            readable = isinstance(json.loads(policy or "{}"), dict)
        except ValueError:
            readable = False
        if not readable:
            return ec2._error("InvalidPolicyDocument", "Invalid Policy Document provided, please check and try again", 400)
        before = set(ec2._vpc_endpoints)
        answer = original(p)
        for made in set(ec2._vpc_endpoints) - before:
            ec2._vpc_endpoints[made]["PolicyDocument"] = policy
        return answer

    return create


def _with_policy(original: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(original)
    def fields(ep: dict, tag: str = "item") -> str:
        policy = f"<policyDocument>{escape(ep.get('PolicyDocument') or '')}</policyDocument>"
        return original(ep, tag).replace("</ownerId>", f"</ownerId>{policy}", 1)

    return fields
