"""Evaluates one call against every policy that may deny it, and names the one that did.

MiniStack's own decision comes first (identity policy, permissions boundary, session policy, resource policy). A call
out of a VPC then needs an endpoint whose policy lets it through, and each further check of the resource must pass.
"""

from __future__ import annotations

import contextvars
from types import ModuleType
from typing import Any, Callable

from .endpoints import VpcEndpoints
from .journal import Call, Journal
from .resources import Resource

_message: contextvars.ContextVar[str] = contextvars.ContextVar("denial_message", default="")
"""The message of this request's last denial, in AWS's words."""

VPC_OF_SESSION = "TaggedConfigVpcId"
"""The attribute in which a session keeps the VPC that its calls come from."""


def install(actions: ModuleType, evaluator: ModuleType, vpc_endpoints: VpcEndpoints, journal: Journal) -> Enforcement:
    """Replaces MiniStack's decision and its message."""
    enforcement = Enforcement(evaluator, vpc_endpoints, journal)
    evaluator.enforce = enforcement.enforce
    actions.identity_denial_message = _naming_the_reason(actions.identity_denial_message)
    actions.access_denied_response = _with_the_message(actions.access_denied_response)
    return enforcement


class Enforcement:
    """The decision about one call."""

    def __init__(self, evaluator: ModuleType, vpc_endpoints: VpcEndpoints, journal: Journal) -> None:
        self._evaluator = evaluator
        self._original = evaluator.enforce
        self._endpoints = vpc_endpoints
        self._journal = journal

    def enforce(
        self,
        access_key_id: str,
        iam_action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        """None if the call is allowed, else MiniStack's own error or result."""
        for one in (resource_arn, *getattr(resource_arn, "more", ())):
            resource = one if isinstance(one, Resource) else Resource(one)
            denied = self.check(access_key_id, iam_action, service, region, resource, self._original, service_context)
            if denied:
                return denied
        return None

    def check(
        self,
        key: str,
        action: str,
        service: str,
        region: str,
        resource: Resource,
        decide: Callable[..., Any],
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        """The same for one resource. `decide` is MiniStack's part, with the parameters of its `enforce`."""
        context: dict[str, Any] = {}
        vpc_id = _session(key).get(VPC_OF_SESSION, "")
        endpoint = self._endpoints.find(vpc_id, service, action, region) if vpc_id else None
        if endpoint:
            context |= {"aws:SourceVpce": endpoint.id, "aws:SourceVpc": vpc_id}
        # What is true of the caller holds for each check; tags and keys of a resource hold for that one alone.
        of_caller = context
        context = {**of_caller, **(service_context or {}), **resource.keys}
        if not resource.is_known:
            return self._check_action(key, action, service, region, decide)
        denied = decide(key, action, service, region, resource_arn=resource, service_context=context)
        if isinstance(denied, self._evaluator.AuthError):
            self._journal.refused(key, action, denied.code)
            return denied
        principal = self._evaluator.resolve_principal(key or "", self.account())
        reason = self._blamed(principal, action, resource, region, context, denied) if denied else ""
        if not denied and vpc_id:
            if endpoint is None:
                name = self._endpoints.service_name(service, action)
                reason = f"because {vpc_id} has no VPC endpoint for {name}: on AWS the call times out"
            elif not self._allows(endpoint.policy, principal, action, resource, region, context):
                reason = f"because no VPC endpoint policy allows the {action} action"
        if reason:
            denied = denied or self._evaluator.EvalResult("ImplicitDeny", principal.arn, "", reason)
            return self._denied(denied, principal, action, resource, reason)
        self._journal.allowed(Call(principal.arn, action, str(resource)))
        for check in resource.checks:
            if not check.is_known:
                if denied := self._check_action(key, check.action, check.action.partition(":")[0], region, decide):
                    return denied
                continue
            further = {**of_caller, **check.context}
            checked = Resource(check.resource)
            denied = decide(key, check.action, check.action.partition(":")[0], region, resource_arn=check.resource,
                            service_context=further)
            if denied:
                reason = self._blamed(principal, check.action, checked, region, further, denied)
                return self._denied(denied, principal, check.action, checked, reason)
            # What the service itself calls on the caller's behalf passes no endpoint of the caller.
            is_same_service = check.action.partition(":")[0] == action.partition(":")[0]
            if endpoint and is_same_service and not self._allows(endpoint.policy, principal, check.action, checked, region, further):
                reason = f"because no VPC endpoint policy allows the {check.action} action"
                denied = self._evaluator.EvalResult("ImplicitDeny", principal.arn, "", reason)
                return self._denied(denied, principal, check.action, checked, reason)
            self._journal.allowed(Call(principal.arn, check.action, check.resource))
        return None

    def _check_action(self, key: str, action: str, service: str, region: str, decide: Callable[..., Any]) -> Any:
        """The decision where the request does not name the resource: a statement must allow the action on something."""
        denied = decide(key, action, service, region, resource_arn="*", service_context={})
        if isinstance(denied, self._evaluator.AuthError):
            self._journal.refused(key, action, denied.code)
            return denied
        principal = self._evaluator.resolve_principal(key or "", self.account())
        if denied and not any(
            statement.effect == "Allow" and self._evaluator._action_matches(action, statement.actions, [])
            for policy in principal.policies
            for statement in policy
        ):
            return self._denied(denied, principal, action, Resource("*"), f"because no identity-based policy allows the {action} action")
        self._journal.allowed(Call(principal.arn, action, "*"))
        return None

    def _denied(self, denied: Any, principal: Any, action: str, resource: Resource, reason: str) -> Any:
        shown = f'"{resource}"' if action.startswith("s3:") else resource  # as S3 has it
        _message.set(f"User: {principal.arn} is not authorized to perform: {action} on resource: {shown} {reason}")
        self._journal.denied(Call(principal.arn, action, str(resource)), reason)
        return denied

    def _blamed(self, principal: Any, action: str, resource: Resource, region: str, context: dict, denied: Any) -> str:
        """Which policy denied, in AWS's words
        (https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html)."""
        if denied.resource_policy_arn:
            return "with an explicit deny in a resource-based policy"
        ctx = self.context(principal, action, resource, region, context)
        for kind, layers in (("identity-based policy", [principal.policies]), *self._limits(principal)):
            for layer in layers:
                decision = self._evaluator.evaluate(ctx, layer).decision
                if decision == "Deny":
                    return f"with an explicit deny in {'an' if kind.startswith('identity') else 'a'} {kind}"
                if decision == "ImplicitDeny":
                    return f"because no {kind} allows the {action} action"
        return f"because no resource-based policy allows the {action} action"

    def _limits(self, principal: Any) -> list[tuple[str, list]]:
        """The boundary and the session policies: MiniStack keeps them in this order, the boundary only if there is one."""
        limits = list(principal.limits)
        has_boundary = bool(limits) and len(limits[0]) == 1 and self._has_boundary(principal)
        return [("permissions boundary", limits[:1] if has_boundary else []),
                ("session policy", limits[1:] if has_boundary else limits)]

    @staticmethod
    def _has_boundary(principal: Any) -> bool:
        from ministack.services import iam

        store = iam._roles if principal.type == "AssumedRole" else iam._users
        name = principal.arn.split("/")[1]
        return bool((store.get_scoped(principal.account, None, name) or {}).get("PermissionsBoundary"))

    def _allows(self, policy: dict, principal: Any, action: str, resource: Resource, region: str, context: dict) -> bool:
        """Whether an endpoint's policy, whose principal is `*`, allows the call."""
        statements = self._evaluator.parse_policy_document(policy)
        ctx = self.context(principal, action, resource, region, context)
        return self._evaluator.evaluate(ctx, [statements]).decision == "Allow"

    def context(self, principal: Any, action: str, resource: Resource, region: str, context: dict) -> Any:
        """What MiniStack evaluates statements against."""
        return self._evaluator.EvalContext(
            principal_arn=principal.arn,
            principal_type=principal.type,
            principal_account=principal.account,
            action=action,
            resource_arn=resource,
            region=region,
            service_context={"aws:tagkeys": None} | {key.lower(): value for key, value in context.items()},
            principal_keys=principal.keys,
        )


    @staticmethod
    def account() -> str:
        """The account of the request."""
        from ministack.core.responses import get_account_id

        return get_account_id()

    @staticmethod
    def last_message() -> str:
        """The message of this request's last denial."""
        return _message.get()


def _session(access_key_id: str) -> dict:
    from ministack.services import sts

    return sts._sessions.get(access_key_id) or {}


def _naming_the_reason(original: Any) -> Any:
    def identity_denial_message(action: str, principal_arn: str, resource: str, explicit_deny: bool) -> str:
        return _message.get() or original(action, principal_arn, resource, explicit_deny)

    return identity_denial_message


def _with_the_message(original: Any) -> Any:
    def access_denied_response(
        service: str, action: str, principal_arn: str, request_id: str, *, error_code: str = "", message: str = "", **rest: Any
    ) -> tuple:
        if not error_code and not message:
            message = _message.get()
        return original(service, action, principal_arn, request_id, error_code=error_code, message=message, **rest)

    return access_denied_response
