"""Credentials of services' roles, the way AWS hands them out: a task's from the credentials endpoint, a function's in
its environment. Both are temporary sessions of the role that Terraform made, and both need the role's trust.

The endpoint is `/v2/credentials/<role>/<VPC>/<task>`, as `AWS_CONTAINER_CREDENTIALS_FULL_URI` names it; each path has
an authorization token of its own (`Tokens`).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import time
from types import ModuleType
from typing import Any, Callable

from .endpoints import VpcEndpoints
from .enforcement import VPC_OF_SESSION

PREFIX = "/v2/credentials/"
ECS = "ecs-tasks.amazonaws.com"
LAMBDA = "lambda.amazonaws.com"


class Refused(Exception):
    """A role that a service may not assume, or that does not exist."""


class Tokens:
    """Authorization tokens of the endpoint: a holder of the stack's secret can derive the token of a path."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def of(self, path: str) -> str:
        """The token of this path."""
        return hmac.new(self._secret.encode(), path.encode(), hashlib.sha256).hexdigest()

    def fits(self, path: str, token: str) -> bool:
        """Whether this is the path's token. Without a secret none is."""
        return bool(self._secret) and hmac.compare_digest(self.of(path).encode(), token.encode())


def path_of(role: str, vpc_id: str, task: str) -> str:
    """The path at which the task's credentials are served."""
    return f"{PREFIX}{role}/{vpc_id or '-'}/{task}"


class ServiceSessions:
    """Sessions of roles that services assume."""

    def __init__(self, evaluator: ModuleType, ec2: ModuleType, seconds: int) -> None:
        self._evaluator = evaluator
        self._endpoints = VpcEndpoints(ec2)
        self._seconds = seconds

    def open(self, role_arn: str, service: str, source_arn: str, name: str, vpc_id: str) -> dict[str, str]:
        """A new session of the role for a service, in the shape of ECS's credentials endpoint."""
        from ministack.services import sts

        role = self._trusting(role_arn, service, source_arn)
        account = role_arn.split(":")[4]
        expires = time.time() + self._seconds
        key, secret, token = sts._gen_session_access_key(), sts._gen_secret(), sts._gen_session_token()
        sts.register_session(key, {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{role['RoleName']}/{name}",
            "UserId": f"{role['RoleId']}:{name}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "Expiration": expires,
            "AccountId": account,
            "PrincipalType": "AssumedRole",
            VPC_OF_SESSION: vpc_id,
        })
        return {
            "RoleArn": role_arn,
            "AccessKeyId": key,
            "SecretAccessKey": secret,
            "Token": token,
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires)),
        }

    def vpc_of_subnets(self, subnet_ids: list[str]) -> str:
        """The VPC that these subnets are in, or nothing."""
        return self._endpoints.vpc_of_subnets(subnet_ids)

    def of_function(self, original: Callable[[dict], dict[str, str]]) -> Callable[[dict], dict[str, str]]:
        """Wraps how MiniStack makes a function's session: its role must trust Lambda, and its calls leave its VPC."""

        @functools.wraps(original)
        def execution_credentials(config: dict) -> dict[str, str]:
            from ministack.services import sts

            self._trusting(config.get("Role", ""), LAMBDA, config.get("FunctionArn", ""))
            made = original(config)
            subnets = (config.get("VpcConfig") or {}).get("SubnetIds") or []
            sts._sessions[made["AWS_ACCESS_KEY_ID"]][VPC_OF_SESSION] = self.vpc_of_subnets(subnets)
            return made

        return execution_credentials

    def endpoint(self, original: Callable, tokens: Tokens) -> Callable:
        """Answers the credentials endpoint in MiniStack's place."""

        async def handle_request(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Any:
            if not path.startswith(PREFIX) or method != "GET":
                return await original(method, path, headers, body, query_params)
            role, _, rest = path.removeprefix(PREFIX).partition("/")
            vpc_id, _, task = rest.partition("/")
            if not tokens.fits(path, headers.get("authorization", "")):
                return _json(401, {"code": "Unauthorized", "message": "this authorization token is not the path's"})
            account, region = _place()
            try:
                return _json(200, self.open(
                    f"arn:aws:iam::{account}:role/{role}", ECS, f"arn:aws:ecs:{region}:{account}:task/tagged-config/{task}",
                    task, "" if vpc_id == "-" else vpc_id,
                ))
            except Refused as error:
                return _json(403, {"code": "AccessDenied", "message": str(error)})

        return handle_request

    def _trusting(self, role_arn: str, service: str, source_arn: str) -> dict:
        """The role, if its trust policy lets this service assume it for this source."""
        from ministack.services import iam

        account = role_arn.split(":")[4] if role_arn.count(":") >= 5 else ""
        role = iam._roles.get_scoped(account, None, role_arn.rsplit("/", 1)[-1])
        if role is None:
            raise Refused(f"there is no role {role_arn}")
        document = role["AssumeRolePolicyDocument"]
        document = json.loads(document) if isinstance(document, str) else document
        statements = document.get("Statement", [])
        # MiniStack's own matcher takes the account's root for every service.
        mine = [statement for statement in (statements if isinstance(statements, list) else [statements])
                if self._evaluator._service_principal_matches(statement.get("Principal"), service)]
        root = f"arn:aws:iam::{account}:root"
        context = self._evaluator.EvalContext(
            principal_arn=root, principal_type="AWSService", principal_account=account, action="sts:AssumeRole",
            resource_arn=role_arn, region=_place()[1],
            service_context={"aws:sourceaccount": account, "aws:sourcearn": source_arn},
        )
        if not self._evaluator.evaluate_trust_policy({**document, "Statement": mine}, root, context):
            raise Refused(f"{service} may not assume {role_arn}: its trust policy refuses {source_arn}")
        return role


def _place() -> tuple[str, str]:
    from ministack.core.responses import get_account_id, get_region

    return get_account_id(), get_region()


def _json(status: int, document: dict) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()
