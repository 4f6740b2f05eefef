"""Calls that a service of AWS makes with a role inside the emulator, where no request passes the gate: ECS reads a task's
secrets, and opens its log streams, with the execution role."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .enforcement import Enforcement
from .resources import Resource


class Denied(RuntimeError):
    """The error that AWS would answer with."""


class ServiceCalls:
    """Permissions of sessions that services hold."""

    def __init__(self, actions: ModuleType, evaluator: ModuleType, enforcement: Enforcement) -> None:
        self._actions = actions
        self._evaluator = evaluator
        self._enforcement = enforcement

    def require(self, access_key_id: str, operation: str, resource: Resource | str, region: str) -> None:
        """Raises `Denied` unless the session may do this, such as `ssm:GetParameters`."""
        service = operation.partition(":")[0]
        denied = self._enforcement.check(
            access_key_id, operation, service, region, resource if isinstance(resource, Resource) else Resource(resource),
            self._decide,
        )
        if denied:
            raise Denied(f"AccessDeniedException: {self._enforcement.last_message()}")

    def parameter(self, arn: str, region: str, account_id: str) -> Resource:
        """A parameter that is read with decryption."""
        from .requests import parameter

        return parameter(arn, "GetParameters", {"WithDecryption": True}, region, account_id)

    def _decide(self, key: str, action: str, service: str, region: str, resource_arn: str, service_context: dict) -> Any:
        """MiniStack's decision without the signature of a request: there is none."""
        evaluator = self._evaluator
        principal = evaluator.resolve_principal(key, self._enforcement.account())
        if isinstance(principal, evaluator.AuthError):
            return principal
        ctx = self._enforcement.context(principal, action, Resource(resource_arn), region, service_context)
        result = evaluator.evaluate(ctx, principal.policies, *principal.limits)
        found = evaluator._resource_policy(service, resource_arn)
        if found is not None:
            result = evaluator.combine_resource_policy(
                result, ctx, *found, required=service in evaluator._POLICY_REQUIRED, limits=principal.limits)
        return None if result.decision == "Allow" else result
