"""Sign-in by SRP: against values of another implementation, the emulator, which verifies the proof, and moto, which demands a
second factor."""

import base64
import datetime
import os
import unittest
from unittest import mock

import boto3
from botocore.exceptions import ClientError
from launcher.errors import StackError
from moto import mock_aws

import sign_in
import throwaway
from localstack.tests.running_emulator import RunningEmulator

USER = "0a1b2c3d-1111-2222-3333-444455556666"
ATTRIBUTES = [{"Name": name, "AttributeDataType": "String", "Mutable": True} for name in ("tenantId", "userRole")]


class SecretTest(unittest.TestCase):
    def test_answers_as_pycognito_does(self) -> None:
        """Values of pycognito 2024.5.1 for the same secrets and time."""
        secret = sign_in.Secret("us-east-1_AbCdEfGhI", "Correct-horse-9", int("1f" * 64, 16))
        challenge = {
            "USER_ID_FOR_SRP": USER, "SALT": "c0ffee0123456789abcdef0123456789", "SECRET_BLOCK": base64.b64encode(b"secret block").decode(),
            "SRP_B": f"{pow(2, int('2e' * 64, 16), sign_in.PRIME):x}",
        }
        self.assertTrue(f"{secret.public:x}".startswith("80dfc948288090d51538f995547b5892b34007b6"))
        self.assertEqual(secret.answer(challenge, datetime.datetime(2026, 3, 7, 5, 4, 9)), {
            "USERNAME": USER, "PASSWORD_CLAIM_SECRET_BLOCK": challenge["SECRET_BLOCK"],
            "PASSWORD_CLAIM_SIGNATURE": "hBgscB2v3VpCBkptn+HAp70nECRnlMf/H2ksbW3INSQ=", "TIMESTAMP": "Sat Mar 7 05:04:09 UTC 2026",
        })

    def test_codes_are_those_of_rfc_6238(self) -> None:
        secret = base64.b32encode(b"12345678901234567890").decode()
        self.assertEqual([sign_in.one_time_code(secret, at) for at in (59, 1111111109, 2000000000)], ["287082", "081804", "279037"])


class EmulatorTest(unittest.TestCase):
    """A pool as prod's client has it: SRP and nothing else."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = RunningEmulator()
        cls.addClassCleanup(cls.emulator.stop)
        cls.cognito = cls.emulator.client("cognito-idp")
        pool = cls.cognito.create_user_pool(PoolName="p", UsernameAttributes=["email"], Schema=ATTRIBUTES)["UserPool"]["Id"]
        client = cls.cognito.create_user_pool_client(
            UserPoolId=pool, ClientName="c", ExplicitAuthFlows=["ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
        )["UserPoolClient"]["ClientId"]
        cls.outputs = {"user_pool_id": pool, "client_id": client, "region": "us-east-1"}

    def users(self) -> list[dict]:
        return self.cognito.list_users(UserPoolId=self.outputs["user_pool_id"])["Users"]

    def test_a_throw_away_user_signs_in_and_is_removed(self) -> None:
        with throwaway.user(self.cognito, self.outputs, self.fail) as token:
            self.assertEqual(len(self.users()), 1)
        claims = base64.urlsafe_b64decode(token.split(".")[1] + "==").decode()
        self.assertIn('"custom:userRole":"writer"', claims.replace(" ", ""))
        self.assertIn('"custom:tenantId":"tagged-config-smoke-test-', claims.replace(" ", ""))
        self.assertEqual(self.users(), [])

    def test_it_is_removed_after_an_interruption(self) -> None:
        with self.assertRaises(KeyboardInterrupt), throwaway.user(self.cognito, self.outputs, self.fail):
            raise KeyboardInterrupt
        self.assertEqual(self.users(), [])

    def test_those_of_killed_runs_are_removed(self) -> None:
        self.cognito.admin_create_user(UserPoolId=self.outputs["user_pool_id"], Username="tagged-config-smoke-test-1@example.com",
                                       UserAttributes=[{"Name": "email", "Value": "tagged-config-smoke-test-1@example.com"}])
        with mock.patch.object(throwaway, "ABANDONED", datetime.timedelta(seconds=-60)):
            with throwaway.user(self.cognito, self.outputs, self.fail):
                self.assertEqual(len(self.users()), 1)

    def test_a_wrong_password_is_refused(self) -> None:
        with throwaway.user(self.cognito, self.outputs, self.fail):
            name = self.users()[0]["Username"]
            with self.assertRaises(ClientError):
                sign_in.id_token(self.cognito, self.outputs["user_pool_id"], self.outputs["client_id"], name, "wrong",
                                 new_authenticator=self.fail)

    def test_a_denied_call_is_a_failed_smoke_test_with_its_reason(self) -> None:
        denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "User: arn:aws:iam::1:user/a is not authorized "
                              "to perform: cognito-idp:AdminCreateUser on resource: arn:pool"}}, "AdminCreateUser")
        with mock.patch.object(self.cognito, "admin_create_user", side_effect=denied):
            with self.assertRaisesRegex(StackError, "smoke test could not sign in.*denied cognito-idp:AdminCreateUser on arn:pool"):
                with throwaway.user(self.cognito, self.outputs, self.fail):
                    self.fail("not signed in")


class SecondFactorTest(unittest.TestCase):
    def test_a_pool_that_demands_one_is_given_a_new_one(self) -> None:
        environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        with mock.patch.dict(os.environ, environment), mock_aws():
            cognito = boto3.client("cognito-idp", region_name="us-east-1")
            pool = cognito.create_user_pool(PoolName="p", UsernameAttributes=["email"], Schema=ATTRIBUTES)["UserPool"]["Id"]
            cognito.set_user_pool_mfa_config(UserPoolId=pool, SoftwareTokenMfaConfiguration={"Enabled": True}, MfaConfiguration="ON")
            client = cognito.create_user_pool_client(UserPoolId=pool, ClientName="c")["UserPoolClient"]["ClientId"]
            outputs = {"user_pool_id": pool, "client_id": client, "region": "us-east-1"}
            with mock.patch.object(cognito, "verify_software_token", wraps=cognito.verify_software_token) as verify:
                with throwaway.user(cognito, outputs, self.fail) as token:
                    self.assertEqual(token.count("."), 2)
            self.assertRegex(verify.call_args.kwargs["UserCode"], r"^\d{6}$")
            self.assertEqual(cognito.list_users(UserPoolId=pool)["Users"], [])


if __name__ == "__main__":
    unittest.main()
