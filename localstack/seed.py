"""The data that a new stack starts with: the article's table, two keys of our own, overrides, blobs, secrets, and the users.

Safe to run again: it writes only what is not there, so that nothing a person changed is overwritten.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

from botocore.exceptions import ClientError

from launcher import aws
from launcher.settings import USERS, Settings

TENANT_A = "A1B2C3D4"
TENANT_B = "E5F6G7H8"

TABLE_ROWS = {
    # The article's own rows.
    (TENANT_A, "featureFlagX"): {"enabled": True, "variant": "control"},
    (TENANT_A, "appSettingY"): {"theme": "dark", "locale": "en-US"},
    (TENANT_B, "featureFlagX"): {"enabled": False},
    (TENANT_B, "paymentGateway"): {"provider": "stripe", "keyId": "pk_test_..."},
    # The configuration that order-service prices with.
    (TENANT_A, "pricing"): {"currency": "USD", "discountPercent": "10"},
    (TENANT_B, "pricing"): {"currency": "EUR", "discountPercent": "15"},
    (TENANT_A, "orderLimits"): {"maxLines": 20, "maxQuantity": 100},
    (TENANT_B, "orderLimits"): {"maxLines": 5, "maxQuantity": 10},
}

PARAMETERS = {
    # Below the parameter root. The global defaults come from Terraform; this tenant overrides one.
    f"tenants/{TENANT_B}/tax/rate": "0.19",
}

BLOBS = {
    # Keys of the bucket. Without metadata, as an object is that somebody puts by hand.
    "global/pricing/table.json": b'{"book": "19.99", "pen": "2.50"}',
    f"tenants/{TENANT_A}/pricing/table.json": b'{"book": "17.99", "pen": "2.25"}',
    "global/receipt/font.bin": bytes(range(256)) * 256,
    # More than the service keeps in memory: it is streamed.
    f"tenants/{TENANT_A}/ranking/model.bin": bytes(range(256)) * 8192,
}

SECRETS = {
    # Below the root of secrets.
    "global/payment/api-key": "sk_test_shared",
    f"tenants/{TENANT_A}/payment/api-key": f"sk_test_{TENANT_A}",
}


def seed(settings: Settings) -> str:
    """Writes the data and users. Returns a short summary."""
    seed_table(settings)
    seed_parameters(settings)
    written = [f"{len(TABLE_ROWS)} table rows", f"{len(PARAMETERS)} tenant override"]
    if settings.optional("blob_bucket"):
        seed_blobs(settings)
        written.append(f"{len(BLOBS)} blobs")
    if settings.optional("secret_root"):
        seed_secrets(settings)
        written.append(f"{len(SECRETS)} secrets")
    seed_users(settings)
    return ", ".join([*written, f"{len(USERS)} users"])


def seed_table(settings: Settings) -> None:
    """The rows of the table, in the article's schema."""
    dynamodb = aws.client(settings, "dynamodb")
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for (tenant, name), value in TABLE_ROWS.items():
        try:
            dynamodb.put_item(
                TableName=settings.output("table_name"),
                Item={
                    "PK": {"S": f"TENANT#{tenant}"},
                    "SK": {"S": f"CONFIG#{name}"},
                    "configValue": {"S": json.dumps(value)},
                    "contentType": {"S": "application/json"},
                    "lastModified": {"S": now},
                    "modifiedBy": {"S": "seed"},
                    "version": {"N": str(time.time_ns() // 1_000_000)},
                },
                ConditionExpression="attribute_not_exists(PK)",
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            pass


def seed_parameters(settings: Settings) -> None:
    """The tenant overrides in Parameter Store."""
    ssm = aws.client(settings, "ssm")
    for path, value in PARAMETERS.items():
        try:
            ssm.put_parameter(
                Name=f"{settings.output('parameter_root').rstrip('/')}/{path}", Value=value, Type="String"
            )
        except ssm.exceptions.ParameterAlreadyExists:
            pass


def seed_blobs(settings: Settings) -> None:
    """The objects of the bucket."""
    s3 = aws.client(settings, "s3")
    for key, content in BLOBS.items():
        try:
            s3.put_object(Bucket=settings.output("blob_bucket"), Key=key, Body=content, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise


def seed_secrets(settings: Settings) -> None:
    """The secrets, as an operator makes them: with the stack's key."""
    secrets = aws.client(settings, "secretsmanager")
    key = settings.optional("secret_kms_key_arn")
    for path, value in SECRETS.items():
        try:
            secrets.create_secret(
                Name=f"{settings.output('secret_root')}/{path}", SecretString=value, **({"KmsKeyId": key} if key else {})
            )
        except secrets.exceptions.ResourceExistsException:
            pass


def seed_users(settings: Settings) -> None:
    """A reader, a writer and an admin of each tenant, and the operators' admin, all with the stack's own password."""
    cognito = aws.client(settings, "cognito-idp")
    pool = settings.output("user_pool_id")
    for email, tenant, role in USERS.values():
        attributes = {
            "email": email,
            "email_verified": "true",
            "custom:tenantId": tenant,
            "custom:userRole": role,
        }
        try:
            cognito.admin_create_user(
                UserPoolId=pool,
                Username=email,
                MessageAction="SUPPRESS",
                TemporaryPassword=settings.password,
                UserAttributes=[{"Name": name, "Value": value} for name, value in attributes.items()],
            )
        except cognito.exceptions.UsernameExistsException:
            continue
        cognito.admin_set_user_password(
            UserPoolId=pool, Username=email, Password=settings.password, Permanent=True
        )
