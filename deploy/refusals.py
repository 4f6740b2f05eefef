"""Translates errors of AWS and Terraform into one message that says what to do."""

from __future__ import annotations

import re

from botocore.exceptions import BotoCoreError, ClientError

# First match wins. The patterns fit error codes and Terraform's text, which holds them.
_ADVICE = (
    (
        r"ExpiredToken|RequestExpired|TokenRefreshRequired|SSOTokenLoadError|UnauthorizedSSOToken|Error loading SSO Token"
        r"|token (?:\w+ )*(?:has )?expired|TokenRetrievalError|CredentialRetrievalError|No valid credential sources",
        "the credentials have expired: sign in again (`aws sso login`, or new keys) and run the same command, which goes on from "
        "where it was",
    ),
    (
        r"InvalidClientTokenId|UnrecognizedClient|SignatureDoesNotMatch|AuthFailure|InvalidAccessKeyId|NoCredentialsError",
        "the credentials are not valid there: see `aws sts get-caller-identity`, and the clock of this machine",
    ),
    (
        r"AccessDenied|UnauthorizedOperation|AuthorizationError|not authorized to perform|AWS denied|OperationDisabled",
        "have it allowed for this identity (its policies, a permission boundary, the organisation's SCPs) and run the same command "
        "again",
    ),
    (
        r"OptInRequired|RegionDisabled|Could not connect to the endpoint|EndpointConnectionError|no such host|InvalidLocationConstraint",
        "is the region right and enabled for the account (VARS='region=...'), and is the network there?",
    ),
    (
        r"Throttl|RequestLimitExceeded|TooManyRequests|SlowDown|Rate exceeded|PriorRequestNotComplete",
        "AWS limits how often it is called: run the same command again in a minute",
    ),
    (
        r"LimitExceeded|QuotaExceeded|TooMany\w+|MaximumNumber|maximum number of|InsufficientCapacity|ServiceQuota",
        "a quota of the account is reached: raise it (Service Quotas, in this region) or remove what is not needed, and run the same "
        "command again",
    ),
    (
        r"AlreadyExists|already exists|ResourceInUse|EntityAlreadyExists|BucketAlreadyOwnedByYou|DuplicateLoadBalancerName",
        "something of this name is there that Terraform's state does not know: left by a run that was killed, or made by "
        "another checkout. Bring its state, import it, or remove it",
    ),
    (
        r"state lock|ConditionalCheckFailed.*lock|PreconditionFailed.*lock",
        "another run holds the state's lock. Where that run is certainly dead: `terraform force-unlock` with the id above",
    ),
)
_DENIED = re.compile(
    r"not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))?", re.IGNORECASE
)
_MOST_LINES = 12


def of_aws(error: ClientError | BotoCoreError) -> str:
    """A refused AWS call as one message: which call, why, and what to do."""
    if not isinstance(error, ClientError):
        return _with_advice(" ".join(str(error).split()), type(error).__name__)
    refused = error.response.get("Error", {})
    code, message = refused.get("Code", "an error"), " ".join(refused.get("Message", "").split())
    if message.startswith("<"):
        message = ""  # a page of a proxy, or of an emulator
    denied = _DENIED.search(message)
    if denied:
        resource = f" on {denied['resource']}" if denied["resource"] else ""
        return _with_advice(f"AWS denied {denied['action']}{resource}", f"{code} not authorized to perform")
    return _with_advice(f"AWS refused {error.operation_name}: {code}: {message}".rstrip(": "), code)


def of_terraform(log: str) -> str | None:
    """The first error in what Terraform printed; None where there is none."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", log)
    found = re.search(r"^(?:\W*)Error: ", log, re.MULTILINE)
    if not found:
        return None
    block = []
    for line in log[found.start():].splitlines():
        line = re.sub(r"^[╷│╵\s]+", "", line).rstrip()
        if block and (line.startswith(("Error: ", "Warning: ")) or len(block) == _MOST_LINES):
            break
        if line:
            block.append(line)
    denied = _DENIED.search(" ".join(block))
    if denied:
        resource = f" on {denied['resource'].rstrip(',')}" if denied["resource"] else ""
        where = next((f" ({line.rstrip(',')})" for line in block if line.startswith("with ")), "")
        return _with_advice(f"AWS denied {denied['action']}{resource}{where}", "not authorized to perform")
    return _with_advice("\n  ".join(block).removeprefix("Error: "), " ".join(block))


def may_pass(message: str) -> bool:
    """Whether waiting may help: not for expired credentials, and not for denied calls."""
    return not any(re.search(pattern, message) for pattern, _ in _ADVICE[:3])


def _with_advice(text: str, symptoms: str) -> str:
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, symptoms)), None)
    return f"{text}. What to do: {advice}" if advice else text
