"""Sets the negative TTL of the VPC's private DNS namespace: how long its resolver caches that a name does not exist.

The default is five minutes. A service that resolves config-service before its first task is registered, or while it has no task, cannot
resolve it for that long. Terraform's provider cannot set it.
"""

from __future__ import annotations

from typing import Any

NEGATIVE_TTL_SECONDS = 5


def shorten_negative_ttl(cloud_map: Any, namespace: str) -> str:
    """Sets the TTL of the SOA record of a private DNS namespace, unless it is set. Returns what was done."""
    pages = cloud_map.get_paginator("list_namespaces").paginate(Filters=[{"Name": "TYPE", "Values": ["DNS_PRIVATE"]}])
    found = next(one["Id"] for page in pages for one in page["Namespaces"] if one["Name"] == namespace)
    properties = cloud_map.get_namespace(Id=found)["Namespace"]["Properties"]
    if properties.get("DnsProperties", {}).get("SOA", {}).get("TTL") == NEGATIVE_TTL_SECONDS:
        return "unchanged"
    record = {"Properties": {"DnsProperties": {"SOA": {"TTL": NEGATIVE_TTL_SECONDS}}}}
    cloud_map.update_private_dns_namespace(Id=found, Namespace=record)
    return f"{namespace}: a name that does not exist is resolved again after {NEGATIVE_TTL_SECONDS} s"
