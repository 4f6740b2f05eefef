"""A user of a throw-away tenant, for the smoke test. It is created, signed in, and removed however the test ends."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import time
from typing import Any, Callable, Iterator, Mapping

from botocore.exceptions import BotoCoreError, ClientError
from launcher.errors import StackError

import refusals
import sign_in

PREFIX = "tagged-config-smoke-test-"
"""Of its e-mail address and tenant. Nothing is sent there."""
ABANDONED = datetime.timedelta(hours=1)


@contextlib.contextmanager
def user(cognito: Any, outputs: Mapping, say: Callable[[str], None]) -> Iterator[str]:
    """The ID token of a user with the role writer."""
    pool = outputs["user_pool_id"]
    name = f"{PREFIX}{secrets.token_hex(6)}"
    email = f"{name}@example.com"
    password = f"{secrets.token_urlsafe(24)}-aA1"
    attributes = {"email": email, "email_verified": "true", "custom:tenantId": name, "custom:userRole": "writer"}
    try:
        try:
            _remove_abandoned(cognito, pool)
            cognito.admin_create_user(
                UserPoolId=pool, Username=email, MessageAction="SUPPRESS",
                UserAttributes=[{"Name": key, "Value": value} for key, value in attributes.items()],
            )
            cognito.admin_set_user_password(UserPoolId=pool, Username=email, Password=password, Permanent=True)
            token = sign_in.id_token(
                cognito, pool, outputs["client_id"], email, password,
                new_authenticator=lambda secret: sign_in.one_time_code(secret, time.time()),
            )
        except (ClientError, BotoCoreError) as error:
            raise StackError(
                f"the smoke test could not sign in its throw-away user, so it is not known whether a signed-in caller is "
                f"served: {refusals.of_aws(error)}"
            ) from error
        yield token
    finally:
        _remove(cognito, outputs["region"], pool, email, say)


def _remove(cognito: Any, region: str, pool: str, email: str, say: Callable[[str], None]) -> None:
    try:
        with contextlib.suppress(cognito.exceptions.UserNotFoundException):
            cognito.admin_delete_user(UserPoolId=pool, Username=email)
    except (ClientError, BotoCoreError) as error:
        say(
            f"warning: the smoke test's user was not removed ({refusals.of_aws(error)}): aws cognito-idp admin-delete-user "
            f"--region {region} --user-pool-id {pool} --username {email}"
        )


def _remove_abandoned(cognito: Any, pool: str) -> None:
    """Of runs that were killed. Another person's run of this hour is left alone."""
    before = datetime.datetime.now(datetime.timezone.utc) - ABANDONED
    found = cognito.list_users(UserPoolId=pool, Filter=f'email ^= "{PREFIX}"')["Users"]
    for one in found:
        if one["UserCreateDate"] < before:
            with contextlib.suppress(cognito.exceptions.UserNotFoundException):
                cognito.admin_delete_user(UserPoolId=pool, Username=one["Username"])
