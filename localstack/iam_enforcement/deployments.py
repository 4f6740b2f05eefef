"""The resources of a deployment's requests, with their tags, and further permissions, such as for a role that is passed on.

`authorization` says which they are. MiniStack knows the resources of some actions and the tags of some services only.
Requests that `authorization` does not know keep the resource that MiniStack found.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable, Iterator

import authorization

from .requests import key_arn, reading
from .resources import Check, Resource


def install(actions: ModuleType) -> None:
    """Replaces how MiniStack finds the resources of a request. Call it after `requests.install`."""
    # MiniStack's own table of Lambda's paths has no function's event settings, and no mapping's removal.
    actions._BOTOCORE_SERVICE_MAP["lambda"] = ["lambda"]
    own = actions._lambda_action
    actions._lambda_action = lambda method, path: authorization.ACTIONS.get(
        ("lambda", found := actions._match_rest_action("lambda", method, path)), found
    ) or own(method, path)
    actions.extract_resource_arn = reading(_resources(actions, actions.extract_resource_arn))


def _resources(actions: ModuleType, original: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(original)
    def extract_resource_arn(
        service: str, method: str, path: str, headers: dict, body: bytes, query_params: dict, region: str, account_id: str
    ) -> str:
        found = original(service, method, path, headers, body, query_params, region, account_id)
        if service == "s3":
            # MiniStack knows S3's resources, each key of a list among them.
            return found
        parameters = {name: value[0] if isinstance(value, list) else value for name, value in query_params.items()}
        if headers.get("x-amz-target") or parameters.get("Action"):
            operation = headers.get("x-amz-target", "").rpartition(".")[2] or parameters["Action"]
        else:
            operation = actions._match_rest_action(service, method, path, query_params) or ""
        call = authorization.Call(service, operation, parameters | authorization.members(service, operation, body), region, account_id, method, path)
        try:
            required = authorization.checks(call)
        except authorization.UnknownRequest:
            return found
        return _merged(found, [_check(one, call) for one in required])

    return extract_resource_arn


def _merged(found: str, required: list[Check]) -> Resource:
    """MiniStack's resource, or this project's where it has one, with the further checks."""
    first, *rest = required
    if not isinstance(found, Resource):
        return Resource(first.resource, first.context, checks=tuple(rest), is_known=first.is_known)
    known = {check.action for check in found.checks}
    more = tuple(check for check in rest if check.action not in known)
    return Resource(found, {**first.context, **found.keys}, found.more, (*found.checks, *more))


def _check(required: authorization.Check, call: authorization.Call) -> Check:
    if required.resource is authorization.UNKNOWN:
        return Check(required.action, authorization.ANY, is_known=False)
    resource = required.resource
    if ":key/alias/" in resource:
        resource = key_arn(resource.rpartition(":key/")[2], call.region, call.account)
    facts = dict(_facts(resource, call))
    return Check(required.action, resource, {**facts, **required.keys})


def _facts(arn: str, call: authorization.Call) -> Iterator[tuple[str, Any]]:
    """Condition keys that are true of what exists: its tags, a mapping's function, a role's boundary."""
    from ministack.services import apigateway, cognito, ec2, iam, kms, lambda_svc, servicediscovery

    if arn.count(":") < 5:
        return
    service, resource = arn.split(":")[2], arn.split(":", 5)[5]
    identifier = resource.rpartition("/")[2]
    tags: Any = None
    if service == "ec2":
        tags = ec2._tags.get(identifier)
    elif service == "kms":
        tags = (kms._keys.get(identifier) or {}).get("Tags")
    elif service == "cognito-idp":
        tags = (cognito._user_pools.get(identifier) or {}).get("UserPoolTags")
    elif service == "servicediscovery":
        tags = servicediscovery._resource_tags.get(arn)
    elif service == "apigateway":
        # What lies below an API has its tags.
        api = f"{resource}//".split("/")[2]
        tags = (apigateway._apis.get(api) or {}).get("tags")
    elif service == "lambda" and resource.startswith("event-source-mapping:"):
        mapping = lambda_svc._esms.get(resource.rpartition(":")[2]) or {}
        if mapping:
            yield "lambda:FunctionArn", mapping["FunctionArn"]
    elif service == "iam":
        boundary = (iam._roles.get(identifier) or {}).get("PermissionsBoundary")
        boundary = boundary.get("PermissionsBoundaryArn") if isinstance(boundary, dict) else boundary
        if boundary:
            yield "iam:PermissionsBoundary", boundary
    if isinstance(tags, list):
        tags = {tag.get("Key", tag.get("TagKey")): tag.get("Value", tag.get("TagValue")) for tag in tags}
    for name, value in (tags or {}).items():
        yield f"aws:ResourceTag/{name}", value
