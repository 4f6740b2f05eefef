"""What the tool asks an account, on moto in this process."""

import io
import os
import unittest
from types import SimpleNamespace
from unittest import mock

import boto3
from botocore.exceptions import ClientError
from launcher.errors import StackError
from launcher.progress import Progress, Step
from moto import mock_aws

import commands
import leftovers

REGION = "us-east-1"
TAGS = [{"Key": "Project", "Value": "tagged-config"}, {"Key": "Environment", "Value": "dev"}]
TRUST = '{"Version": "2012-10-17", "Statement": []}'


class AccountTest(unittest.TestCase):
    def setUp(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
        environment = mock.patch.dict("os.environ", kept | keys, clear=True)
        environment.start()
        self.addCleanup(environment.stop)
        aws = mock_aws()
        aws.start()
        self.addCleanup(aws.stop)
        self.stack = SimpleNamespace(
            name="dev", prefix="tagged-config-dev", region=REGION, variable=lambda name, default: default
        )

    def step(self) -> Step:
        return Step(Progress(io.StringIO()), "leftovers")


class LeftoversTest(AccountTest):
    def test_finds_roles_and_log_groups_by_name(self) -> None:
        iam, logs = boto3.client("iam"), boto3.client("logs", region_name=REGION)
        for name in ("tagged-config-dev-invalidator", "tagged-config-prod-invalidator", "other"):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
        for name in ("/tagged-config-dev/api", "/tagged-config-prod/api", "/aws/lambda/tagged-config-dev-invalidator"):
            logs.create_log_group(logGroupName=name)
        left, pending = leftovers.find(self.stack)
        self.assertEqual([name.rpartition(":")[2] for name in left], [
            "/aws/lambda/tagged-config-dev-invalidator", "/tagged-config-dev/api", "role/tagged-config-dev-invalidator",
        ])
        self.assertEqual(pending, [])

    def test_waits_for_the_index_of_tags(self) -> None:
        answers = [(["arn:aws:sqs:queue"], []), (["arn:aws:sqs:queue"], []), ([], ["key"])]
        with mock.patch.object(leftovers, "find", side_effect=answers):
            found = leftovers.settle(self.stack, self.step(), sweep=False, limit_seconds=20, pause_seconds=0.01)
        self.assertEqual(found, ([], ["key"]))

    def test_judges_in_the_end(self) -> None:
        boto3.client("sqs", region_name=REGION).create_queue(QueueName="a", tags={tag["Key"]: tag["Value"] for tag in TAGS})
        left, _ = leftovers.settle(self.stack, self.step(), sweep=False, limit_seconds=0.02, pause_seconds=0.01)
        self.assertEqual(left, [f"arn:aws:sqs:{REGION}:123456789012:a"])

    def test_removes_log_groups_that_come_back(self) -> None:
        boto3.client("logs", region_name=REGION).create_log_group(
            logGroupName="/aws/ecs/containerinsights/tagged-config-dev/performance"
        )
        self.assertEqual(leftovers.settle(self.stack, self.step(), sweep=True, limit_seconds=0), ([], []))

    def test_a_key_that_waits_for_its_end_is_not_left(self) -> None:
        kms = boto3.client("kms", region_name=REGION)
        tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in TAGS]
        key = kms.create_key(Tags=tags)["KeyMetadata"]
        kms.schedule_key_deletion(KeyId=key["KeyId"])
        self.assertEqual(leftovers.find(self.stack), ([], [key["Arn"]]))


class ApiLogRoleTest(AccountTest):
    def point_at(self, arn: str) -> None:
        boto3.client("apigateway", region_name=REGION).update_account(
            patchOperations=[{"op": "replace", "path": "/cloudwatchRoleArn", "value": arn}]
        )

    def test_an_account_without_a_role_is_told_so(self) -> None:
        with self.assertRaisesRegex(StackError, "has no role"):
            commands._api_log_role(self.stack)

    def test_a_role_that_is_no_more_does_not_pass(self) -> None:
        self.point_at("arn:aws:iam::123456789012:role/gone")
        with self.assertRaisesRegex(StackError, "no more .*role/gone"):
            commands._api_log_role(self.stack)

    def test_a_role_that_exists_passes(self) -> None:
        role = boto3.client("iam").create_role(RoleName="logs", Path="/api/", AssumeRolePolicyDocument=TRUST)["Role"]
        self.point_at(role["Arn"])
        commands._api_log_role(self.stack)

    def test_who_may_not_ask_is_not_stopped(self) -> None:
        self.point_at("arn:aws:iam::123456789012:role/unseen")
        denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetRole")
        real = commands.boto3.client

        def client(service: str, **options: str):
            made = real(service, **options)
            if service == "iam":
                made.get_role = mock.Mock(side_effect=denied)
            return made

        with mock.patch.object(commands.boto3, "client", client):
            commands._api_log_role(self.stack)


if __name__ == "__main__":
    unittest.main()
