"""IAM for moto: what a session of a role may do, by the role's own policies, resources and conditions included.

Moto's own (INITIAL_NO_AUTH_ACTION_COUNT, /moto-api/reset-auth) cannot be used for that: it evaluates every action on the resource `*`
alone, so that a statement with an ARN allows nothing; it evaluates no condition and checks no role that is passed on; and its
server refuses the signatures of some REST services, such as Lambda and API Gateway.
What a request needs comes from localstack/authorization.py; how a policy is evaluated, from MiniStack.

Runs in moto's process. A caller that is not a session of a role is the account's owner, and may do everything.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import parse_qsl, unquote

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

import authorization  # noqa: E402
from ministack.core import iam_actions, iam_evaluator  # noqa: E402
from moto.apigateway.models import apigateway_backends  # noqa: E402
from moto.apigatewayv2.models import apigatewayv2_backends  # noqa: E402
from moto.awslambda.utils import get_backend as lambda_backend  # noqa: E402
from moto.cognitoidp.models import cognitoidp_backends  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402
from moto.iam.models import iam_backends  # noqa: E402
from moto.kms.models import kms_backends  # noqa: E402
from moto.servicediscovery.models import servicediscovery_backends  # noqa: E402
from moto.sts.models import sts_backends  # noqa: E402

# MiniStack matches Lambda's paths by a table of its own, which has no function's event settings.
iam_actions._BOTOCORE_SERVICE_MAP["lambda"] = ["lambda"]
_used: set[str] = set()
_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")


def denial(environ: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """AWS's answer to a request that the caller's policies do not allow; None for all others. It is logged, too."""
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    role = _role(scope[1]) if scope else None
    if role is None:
        return None
    call = _call(environ, body, scope[3], scope[2], role.arn.split(":")[4])
    policies = [iam_evaluator.parse_policy_document(text) for text in _policies(role)]
    try:
        refused = next((check for check in authorization.checks(call) if not _allowed(policies, role.arn, call, check)), None)
        if refused is None:
            _note_use({check.action for check in authorization.checks(call)})
    except authorization.Unreadable:
        # The service says what is wrong with it.
        return None
    except authorization.UnknownRequest as unknown:
        refused = authorization.Check(f"{unknown}, which localstack/authorization.py does not know")
    if refused is None:
        return None
    print(f"DENIED {refused.action} on {refused.resource} with {dict(refused.keys)}", file=sys.stderr, flush=True)
    return iam_actions.access_denied_response(
        scope[3], refused.action, role.arn, "denied", headers={}, resource_arn=refused.resource or "*"
    )


def _note_use(actions: set[str]) -> None:
    """Writes each action that is used to the log, once."""
    for action in sorted(actions - _used):
        # One write, on a line of its own: other threads write there, too.
        sys.stderr.write(f"\nUSED {action}\n")
    _used.update(actions)


def _call(environ: dict[str, Any], body: bytes, service: str, region: str, account: str) -> authorization.Call:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    parameters = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    if "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", ""):
        parameters |= dict(parse_qsl(body.decode(), keep_blank_values=True))
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if service == "s3":
        operation = iam_actions._s3_action(method, unquote(path), parameters)
    elif target or parameters.get("Action"):
        operation = target.rpartition(".")[2] or parameters["Action"]
    else:
        operation = iam_actions._match_rest_action(service, method, path, parameters) or f"{method} {path}"
    return authorization.Call(service, operation, parameters | authorization.members(service, operation, body), region, account, method, path)


def _role(access_key: str) -> Any:
    """The role that this access key is a session of."""
    for account, partitions in sts_backends.items():
        for partition, backend in partitions.items():
            for session in backend.assumed_roles:
                if session.access_key_id == access_key:
                    return iam_backends[account][partition].get_role_by_arn(session.role_arn)
    return None


def _policies(role: Any) -> Iterator[str]:
    yield from role.policies.values()
    for policy in role.managed_policies.values():
        yield next(version.document for version in policy.versions if version.is_default)


def _allowed(policies: list, caller: str, call: authorization.Call, check: authorization.Check) -> bool:
    known = check.resource not in (authorization.ANY, authorization.UNKNOWN)
    keys = (_facts(check.resource, call) if known else {}) | dict(check.keys)
    context = iam_evaluator.EvalContext(
        principal_arn=caller, principal_type="AssumedRole", principal_account=call.account, action=check.action,
        resource_arn=check.resource or "*", region=call.region, service_context={name.lower(): value for name, value in keys.items()},
    )
    if check.resource is authorization.UNKNOWN:
        return any(iam_evaluator._action_matches(check.action, s.actions, []) for policy in policies for s in policy if s.effect == "Allow")
    return iam_evaluator.evaluate(context, policies).decision == "Allow"


def _facts(arn: str, call: authorization.Call) -> dict[str, Any]:
    """Condition keys that are true of what exists: its tags, a mapping's function, a role's boundary."""
    service, resource = arn.split(":")[2], arn.split(":", 5)[5]
    identifier = resource.rpartition("/")[2]
    facts: dict[str, Any] = {}
    tags: dict[str, str] | None = None
    if service == "ec2":
        tags = ec2_backends[call.account][call.region].tags.get(identifier)
    elif service == "kms":
        backend = kms_backends[call.account][call.region]
        tags = backend.tagger.get_tag_dict_for_resource(identifier)
    elif service == "cognito-idp":
        pool = cognitoidp_backends[call.account][call.region].user_pools.get(identifier)
        tags = pool.extended_config.get("UserPoolTags") if pool else None
    elif service == "servicediscovery":
        tags = servicediscovery_backends[call.account][call.region].tagger.get_tag_dict_for_resource(arn)
    elif service == "apigateway":
        tags = _api_tags(resource, call)
    elif service == "lambda" and resource.startswith("event-source-mapping:"):
        mapping = lambda_backend(call.account, call.region)._event_source_mappings.get(resource.rpartition(":")[2])
        facts = {"lambda:FunctionArn": mapping.function_arn} if mapping else {}
    elif service == "iam":
        role = next((role for role in iam_backends[call.account]["aws"].roles.values() if role.arn == arn), None)
        facts = {"iam:PermissionsBoundary": role.permissions_boundary_arn} if role and role.permissions_boundary_arn else {}
    return facts | {f"aws:ResourceTag/{name}": value for name, value in (tags or {}).items()}


def _api_tags(resource: str, call: authorization.Call) -> dict[str, str] | None:
    """What lies below an API has its tags."""
    kind, identifier = f"{resource}//".split("/")[1:3]
    if kind == "restapis":
        api = apigateway_backends[call.account][call.region].apis.get(identifier)
        return api.tags if api else None
    return apigatewayv2_backends[call.account][call.region].get_tags(f"arn:aws:apigateway:{call.region}::/{kind}/{identifier}")
