"""The emulator extension: IAM as AWS enforces it, for MiniStack started with `AUTH=true`.

MiniStack checks signatures and evaluates identity policies, boundaries, session policies and resource policies. This
package adds what our policies name and MiniStack does not know. Read in this order:

- `requests`: the resources and condition keys of a request: every name of `GetParameters`, `dynamodb:LeadingKeys` of
  each item, the statements of PartiQL, Cloud Map's two keys, what S3 answers to a read of nothing, and the KMS key behind a table,
  a SecureString, an object or a secret (`kms:ViaService`, encryption context);
- `deployments`: the resources and tags of what a deployment calls, roles that are passed on (by `authorization`);
- `variables`: policy variables such as `${aws:PrincipalTag/tenant}`;
- `endpoints`: the VPC endpoint through which a task's or a function's call leaves, and its policy;
- `enforcement`: one call against all of these, and the message that says which policy denied it;
- `credentials`: the credentials endpoint of ECS tasks, and the trust policies of service principals;
- `services`: calls that a service makes with a role inside the emulator;
- `journal`: who called what, and what was denied, at `PATH` of the emulator's own port (GET shows, DELETE clears).

It hooks private functions of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType

import hooks

from . import credentials, deployments, endpoints, enforcement, journal, requests, services, variables
from .journal import PATH

__all__ = ["PATH", "SECRET_VARIABLE", "SESSION_SECONDS_VARIABLE", "Installed", "install", "is_enabled", "verify"]

SECRET_VARIABLE = "TAGGED_CONFIG_CREDENTIALS_SECRET"
"""The secret that authorization tokens of the credentials endpoint are derived from."""
SESSION_SECONDS_VARIABLE = "TAGGED_CONFIG_SESSION_SECONDS"
"""How long a task's session is valid (default: one hour)."""


def is_enabled() -> bool:
    """Whether the emulator enforces IAM at all."""
    return os.environ.get("AUTH", "false").lower() == "true"


def verify(
    actions: ModuleType, evaluator: ModuleType, runtime: ModuleType, ec2: ModuleType, imds: ModuleType, s3: ModuleType,
    secretsmanager: ModuleType, dynamodb: ModuleType,
) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked or called is as these modules know it."""
    for name, parameters in {
        "extract_resource_arn": ["service", "method", "path", "headers", "body", "query_params", "region", "account_id"],
        "dynamodb_resource_arns": ["body", "region", "account_id"],
        "dynamodb_transaction_checks": ["iam_action", "body", "region", "account_id"],
        "_lambda_action": ["method", "path"],
        "_match_rest_action": ["service", "method", "path", "query_params"],
        "_s3_action": ["method", "path", "query_params"],
        "_s3_source_object": ["headers"],
        "s3_additional_checks": ["method", "path", "headers", "body", "query_params"],
        "identity_denial_message": ["action", "principal_arn", "resource", "explicit_deny"],
        "access_denied_response": ["service", "action", "principal_arn", "request_id", "error_code", "message", "headers",
                                   "resource_arn", "explicit_deny", "resource_policy_arn"],
    }.items():
        hooks.require_function(actions, name, parameters)
    for name, parameters in {
        "enforce": ["access_key_id", "iam_action", "service", "region", "resource_arn", "service_context"],
        "evaluate": ["ctx", "policies", "limits"],
        "evaluate_trust_policy": ["trust_doc", "caller_arn", "ctx"],
        "resolve_principal": ["access_key_id", "account_id", "credential"],
        "_first_match": ["ctx", "stmts", "effect"],
        "_resolve_condition_key": ["key", "ctx"],
        "_service_principal_matches": ["principal", "service"],
        "_gather_role_policies": ["role_name", "account_id"],
    }.items():
        hooks.require_function(evaluator, name, parameters)
    hooks.require_function(dynamodb, "_parse_partiql", ["statement", "parameters"])
    hooks.require_function(runtime, "execution_credentials", ["config"])
    hooks.require_function(ec2, "_create_vpc_endpoint", ["p"])
    hooks.require_function(ec2, "_vpce_fields_xml", ["ep", "tag"])
    hooks.require_function(imds, "handle_request", ["method", "path", "headers", "body", "query_params"])
    hooks.require_function(s3, "_parse_bucket_key", ["path", "headers"])
    hooks.require_function(s3, "_bucket_default_sse_headers", ["bucket_name"])
    hooks.require_function(secretsmanager, "_resolve", ["secret_id", "use_arn_scope"])
    hooks.require_function(secretsmanager, "_find_stage_version", ["secret", "stage"])


@dataclass(frozen=True)
class Installed:
    """The parts of this extension that others use."""

    sessions: credentials.ServiceSessions
    tokens: credentials.Tokens
    services: services.ServiceCalls


def install() -> Installed | None:
    """Hooks the installed MiniStack, if it enforces IAM."""
    secret = os.environ.pop(SECRET_VARIABLE, "")
    seconds = int(os.environ.pop(SESSION_SECONDS_VARIABLE, "3600"))
    if not is_enabled():
        return None
    hooks.require_version(hooks.installed_version())
    from ministack import app
    from ministack.core import iam_actions, iam_evaluator, lambda_runtime
    from ministack.services import dynamodb, ec2, imds, lambda_svc, s3, secretsmanager

    verify(iam_actions, iam_evaluator, lambda_runtime, ec2, imds, s3, secretsmanager, dynamodb)
    record = journal.Journal()
    app._handle_admin_config_request = record.served(app._handle_admin_config_request)
    requests.install(iam_actions)
    deployments.install(iam_actions)
    iam_evaluator._resolve_condition_key = requests.over_tls(iam_evaluator._resolve_condition_key)
    iam_evaluator._first_match = variables.filled_in(iam_evaluator._first_match, iam_evaluator._resolve_condition_key)
    endpoints.install(ec2)
    gate = enforcement.install(iam_actions, iam_evaluator, endpoints.VpcEndpoints(ec2), record)
    sessions = credentials.ServiceSessions(iam_evaluator, ec2, seconds)
    tokens = credentials.Tokens(secret)
    imds.handle_request = sessions.endpoint(imds.handle_request, tokens)
    lambda_runtime.execution_credentials = sessions.of_function(lambda_runtime.execution_credentials)
    lambda_svc.execution_credentials = lambda_runtime.execution_credentials
    return Installed(sessions, tokens, services.ServiceCalls(iam_actions, iam_evaluator, gate))
