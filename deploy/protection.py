"""Finds resources in a Terraform state that refuse deletion and must be changed before a destroy."""

from __future__ import annotations

import json
from typing import Iterator, Mapping, Sequence

# Pool, table and load balancer refuse by themselves. Repositories and buckets refuse while they hold something, and
# whether they may be emptied is known to Terraform's state alone.
_PROTECTED = {
    "aws_cognito_user_pool": lambda attributes: attributes.get("deletion_protection") == "ACTIVE",
    "aws_dynamodb_table": lambda attributes: bool(attributes.get("deletion_protection_enabled")),
    "aws_lb": lambda attributes: bool(attributes.get("enable_deletion_protection")),
    "aws_ecr_repository": lambda attributes: not attributes.get("force_delete"),
    "aws_s3_bucket": lambda attributes: not attributes.get("force_destroy"),
}


def protected(resources: Sequence[Mapping]) -> list[str]:
    """Addresses of what exists and is protected.

    Not what a failed creation left behind (tainted, deposed): an apply would replace it, where it is only to go.
    """
    return [
        _address(resource, instance)
        for resource in resources
        for instance in resource["instances"]
        if resource["type"] in _PROTECTED
        and "status" not in instance and "deposed" not in instance
        and _PROTECTED[resource["type"]](instance["attributes"])
    ]


def places(resources: Sequence[Mapping]) -> tuple[set[str], set[str]]:
    """Accounts and regions that the resources lie in, from their ARNs."""
    arns = [arn.split(":") for arn in _arns(resources)]
    return {arn[4] for arn in arns} - {""}, {arn[3] for arn in arns} - {""}


def _arns(resources: Sequence[Mapping]) -> Iterator[str]:
    for resource in resources:
        for instance in resource["instances"]:
            arn = instance.get("attributes", {}).get("arn") or ""
            if arn.count(":") >= 5:
                yield arn


def _address(resource: Mapping, instance: Mapping) -> str:
    module = f"{resource['module']}." if "module" in resource else ""
    index = f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""
    return f"{module}{resource['type']}.{resource['name']}{index}"
