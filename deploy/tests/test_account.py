"""What the tool reads from an account, on moto in this process."""

import io
import os
import unittest
from types import SimpleNamespace
from unittest import mock

import boto3
from botocore.exceptions import ClientError
from launcher.progress import Progress, Step
from moto import mock_aws

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
            name="dev", prefix="tagged-config-dev", region=REGION, values=lambda _: {"parameter_root": "/tagged-config-dev/config"}
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

    def test_parameters_that_operators_made_go_too(self) -> None:
        ssm = boto3.client("ssm", region_name=REGION)
        for number in range(12):
            ssm.put_parameter(Name=f"/tagged-config-dev/config/tenants/a/tax/{number}", Value="1", Type="String")
        ssm.put_parameter(Name="/tagged-config-prod/config/tenants/a/tax", Value="1", Type="String")
        self.assertEqual(len(leftovers.find(self.stack)[0]), 12)
        self.assertEqual(leftovers.settle(self.stack, self.step(), sweep=True, limit_seconds=0), ([], []))
        self.assertEqual([one["Name"] for one in ssm.describe_parameters()["Parameters"]], ["/tagged-config-prod/config/tenants/a/tax"])

    def test_revisions_that_no_state_knows_are_deregistered(self) -> None:
        ecs = boto3.client("ecs", region_name=REGION)
        for family in ("tagged-config-dev-config-service", "tagged-config-production"):
            ecs.register_task_definition(family=family, containerDefinitions=[{"name": "a", "image": "a", "memory": 64}])
        leftovers.settle(self.stack, self.step(), sweep=True, limit_seconds=0)
        self.assertEqual(ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"],
                         [f"arn:aws:ecs:{REGION}:123456789012:task-definition/tagged-config-production:1"])


class GhostsTest(AccountTest):
    """What the index of tags still names."""

    def test_what_is_gone_is_not_left(self) -> None:
        prefix = f"{REGION}:123456789012"
        for arn in (
            f"arn:aws:elasticloadbalancing:{prefix}:listener/app/a/50dc6c495c0c9188/f2f7dc8efc522ab2",
            f"arn:aws:elasticloadbalancing:{prefix}:listener-rule/app/a/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee",
            f"arn:aws:elasticloadbalancing:{prefix}:targetgroup/a/50dc6c495c0c9188",
            f"arn:aws:elasticloadbalancing:{prefix}:loadbalancer/app/a/50dc6c495c0c9188",
            f"arn:aws:servicediscovery:{prefix}:namespace/ns-1", f"arn:aws:servicediscovery:{prefix}:service/srv-1",
            "arn:aws:route53:::hostedzone/Z1", f"arn:aws:ec2:{prefix}:vpc/vpc-1", f"arn:aws:ec2:{prefix}:subnet/subnet-1",
            f"arn:aws:ec2:{prefix}:security-group/sg-1", f"arn:aws:ec2:{prefix}:route-table/rtb-1",
            f"arn:aws:ec2:{prefix}:elastic-ip/eipalloc-1", f"arn:aws:ec2:{prefix}:natgateway/nat-1",
            f"arn:aws:ec2:{prefix}:vpc-endpoint/vpce-1", f"arn:aws:dynamodb:{prefix}:table/a", f"arn:aws:lambda:{prefix}:function:a",
            f"arn:aws:lambda:{prefix}:event-source-mapping:{'0' * 36}", f"arn:aws:logs:{prefix}:log-group:/a/b", f"arn:aws:sns:{prefix}:a",
            f"arn:aws:sqs:{prefix}:a", "arn:aws:s3:::a", f"arn:aws:ecr:{prefix}:repository/a/b", f"arn:aws:ssm:{prefix}:parameter/a/b",
            f"arn:aws:cognito-idp:{prefix}:userpool/{REGION}_a", f"arn:aws:events:{prefix}:rule/a",
            f"arn:aws:cloudwatch:{prefix}:alarm:a", f"arn:aws:apigateway:{REGION}::/restapis/a/stages/live",
            f"arn:aws:apigateway:{REGION}::/apis/a", f"arn:aws:apigateway:{REGION}::/vpclinks/a",
            f"arn:aws:wafv2:{prefix}:regional/webacl/a/1", f"arn:aws:ecs:{prefix}:cluster/a", f"arn:aws:kms:{prefix}:key/1",
            f"arn:aws:application-autoscaling:{prefix}:scalable-target/1",
        ):
            with self.subTest(arn=arn):
                self.assertIs(leftovers._still_there(arn), False)

    def test_what_is_there_is_left(self) -> None:
        ec2 = boto3.client("ec2", region_name=REGION)
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        boto3.client("ssm", region_name=REGION).put_parameter(Name="/a/b", Value="1", Type="String")
        boto3.client("logs", region_name=REGION).create_log_group(logGroupName="/a/b")
        prefix = f"{REGION}:123456789012"
        for arn in (f"arn:aws:ec2:{prefix}:vpc/{vpc}", f"arn:aws:ssm:{prefix}:parameter/a/b", f"arn:aws:logs:{prefix}:log-group:/a/b",
                    f"arn:aws:unknown:{prefix}:kind/a"):
            with self.subTest(arn=arn):
                self.assertTrue(leftovers._still_there(arn))

    def test_a_stopped_task_is_not_left(self) -> None:
        ecs = mock.Mock()
        ecs.describe_tasks.return_value = {"tasks": [{"lastStatus": "STOPPED"}]}
        with mock.patch.object(leftovers, "_client", return_value=ecs):
            self.assertIs(leftovers._still_there(f"arn:aws:ecs:{REGION}:123456789012:task/tagged-config-dev/1"), False)
        ecs.describe_tasks.assert_called_once_with(
            cluster="tagged-config-dev", tasks=[f"arn:aws:ecs:{REGION}:123456789012:task/tagged-config-dev/1"]
        )

    def test_what_may_not_be_read_stops(self) -> None:
        denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeVpcs")
        with mock.patch.object(leftovers, "_client", return_value=mock.Mock(describe_vpcs=mock.Mock(side_effect=denied))):
            with self.assertRaises(ClientError):
                leftovers._still_there(f"arn:aws:ec2:{REGION}:123456789012:vpc/vpc-1")


if __name__ == "__main__":
    unittest.main()
