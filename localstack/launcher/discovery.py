"""Instances of config-service in Cloud Map."""

from __future__ import annotations

import time

from . import aws
from .errors import StackError
from .settings import Replica, Settings


def hide(settings: Settings, replica: Replica, seconds: float) -> None:
    """Deregisters a replica for a time, so that the invalidator does not call it."""
    client = aws.client(settings, "servicediscovery")
    service = settings.output("config_service_id")
    found = client.list_instances(ServiceId=service)["Instances"]
    mine = next((one for one in found if one["Attributes"].get("AWS_INSTANCE_IPV4") == replica.address), None)
    if mine is None:
        raise StackError(f"Cloud Map does not know {replica.name} at {replica.address}")
    client.deregister_instance(ServiceId=service, InstanceId=mine["Id"])
    try:
        time.sleep(seconds)
    finally:
        client.register_instance(ServiceId=service, InstanceId=mine["Id"], Attributes=mine["Attributes"])
