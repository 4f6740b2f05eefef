"""A deployer's policies, evaluated on resources and tags: what AWS requires (`authorization`), and the emulator with it."""

from __future__ import annotations

import json
import unittest
from typing import Any

import authorization
import boto3
from authorization import Call, Check
from botocore.exceptions import ClientError
from launcher.settings import REGION

from .running_emulator import RunningEmulator

TAGS = {"aws:RequestTag/Project": "tagged-config"}


def call(service: str, operation: str, method: str = "POST", path: str = "/", **parameters: Any) -> Call:
    return Call(service, operation, parameters, "eu-west-1", "111122223333", method, path)


class WhatIsAsked(unittest.TestCase):
    """Resources, tags, and further permissions."""

    def test_what_is_created_and_what_it_is_created_in(self) -> None:
        flat = {"VpcId": "vpc-00000001", "TagSpecification.1.Tag.1.Key": "Project", "TagSpecification.1.Tag.1.Value": "tagged-config"}
        self.assertEqual(
            authorization.checks(call("ec2", "CreateSubnet", **flat)),
            [
                Check("ec2:CreateSubnet", "arn:aws:ec2:eu-west-1:111122223333:subnet/*", TAGS),
                Check("ec2:CreateTags", "arn:aws:ec2:eu-west-1:111122223333:subnet/*", TAGS | {"ec2:CreateAction": "CreateSubnet"}),
                Check("ec2:CreateSubnet", "arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-00000001"),
            ],
        )

    def test_a_role_that_is_passed_on(self) -> None:
        self.assertIn(
            Check("iam:PassRole", "arn:aws:iam::111122223333:role/a", {"iam:PassedToService": "lambda.amazonaws.com"}),
            authorization.checks(call("lambda", "CreateFunction", FunctionName="f", Role="arn:aws:iam::111122223333:role/a")),
        )

    def test_a_tag_without_a_value_hides_no_role(self) -> None:
        required = authorization.checks(
            call("ecs", "RegisterTaskDefinition", family="f", taskRoleArn="arn:aws:iam::111122223333:role/a", tags=[{"key": "x"}])
        )
        self.assertIn("iam:PassRole", [check.action for check in required])

    def test_what_is_stored_or_handed_on_is_no_parameter(self) -> None:
        body = b'{"Role": "arn:aws:iam::111122223333:role/a", "tags": ["a"]}'
        self.assertEqual(authorization.members("s3", "PutObject", body), {})
        self.assertEqual(authorization.members("lambda", "Invoke", body), {})
        self.assertEqual(authorization.members("lambda", "CreateFunction", body)["tags"], ["a"])
        # Not even of a body that is half written.
        self.assertEqual([authorization.members("ssm", "GetParameters", half) for half in (b'{"Names":', b"[1]", b"")], [{}, {}, {}])

    def test_a_function_by_any_of_its_names(self) -> None:
        arn = "arn:aws:lambda:eu-west-1:111122223333:function:f"
        for name, expected in (
            ("f", arn), ("f:live", f"{arn}:live"), (arn, arn), (f"{arn}:1", f"{arn}:1"), ("111122223333:function:f", arn),
        ):
            required = authorization.checks(call("lambda", "Invoke", path=f"/2015-03-31/functions/{name}/invocations"))
            self.assertEqual([(check.action, check.resource) for check in required], [("lambda:InvokeFunction", expected)])

    def test_parameters_by_name_arn_and_version(self) -> None:
        arn = "arn:aws:ssm:eu-west-1:111122223333:parameter/a/b"
        required = authorization.checks(call("ssm", "GetParameters", Names=["/a/b", arn, "/a/b:3"]))
        self.assertEqual([check.resource for check in required], [arn] * 3)

    def test_a_new_role_has_its_path(self) -> None:
        required = authorization.checks(call("iam", "CreateRole", RoleName="r", Path="/admin/"))
        self.assertEqual([check.resource for check in required], ["arn:aws:iam::111122223333:role/admin/r"])

    def test_a_version_of_an_object_has_a_permission_of_its_own(self) -> None:
        for version, expected in ({}, ["s3:DeleteObject"]), ({"versionId": "1"}, ["s3:DeleteObject", "s3:DeleteObjectVersion"]):
            required = authorization.checks(call("s3", "DeleteObject", "DELETE", "/b/k", **version))
            self.assertEqual([check.action for check in required], expected)

    def test_a_bucket_and_what_is_set_of_it(self) -> None:
        for operation in (
            "CreateBucket", "PutBucketVersioning", "PutEncryptionConfiguration", "PutBucketPolicy", "PutLifecycleConfiguration",
            "PutBucketNotification", "PutBucketPublicAccessBlock", "PutBucketOwnershipControls",
        ):
            required = authorization.checks(call("s3", operation, "PUT", "/a-bucket"))
            self.assertEqual(required, [Check(f"s3:{operation}", "arn:aws:s3:::a-bucket")])

    def test_a_rule_and_its_target(self) -> None:
        arn = "arn:aws:events:eu-west-1:111122223333:rule/blob-change"
        made = authorization.checks(call("events", "PutRule", Name="blob-change", Tags=[{"Key": "Project", "Value": "tagged-config"}]))
        self.assertEqual([(check.action, check.resource) for check in made], [("events:PutRule", arn), ("events:TagResource", arn)])
        [target] = authorization.checks(call("events", "PutTargets", Rule="blob-change", Targets=[{"Id": "a", "Arn": "arn:a"}]))
        self.assertEqual((target.action, target.resource), ("events:PutTargets", arn))

    def test_an_endpoint_of_secrets_manager(self) -> None:
        required = authorization.checks(call(
            "ec2", "CreateVpcEndpoint", VpcId="vpc-00000001", ServiceName="com.amazonaws.eu-west-1.secretsmanager", PrivateDnsEnabled="true",
            **{"SubnetId.1": "subnet-00000001", "SecurityGroupId.1": "sg-00000001"}))
        self.assertEqual([(check.action, check.resource.rpartition(":")[2]) for check in required], [
            ("ec2:CreateVpcEndpoint", "vpc-endpoint/*"), ("ec2:CreateVpcEndpoint", "security-group/sg-00000001"),
            ("ec2:CreateVpcEndpoint", "subnet/subnet-00000001"), ("ec2:CreateVpcEndpoint", "vpc/vpc-00000001"),
            ("route53:AssociateVPCWithHostedZone", "hostedzone/*"),
        ])

    def test_a_secret_by_its_name_and_by_its_arn(self) -> None:
        name = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:a/global/b-??????"
        made = authorization.checks(call("secretsmanager", "CreateSecret", Name="a/global/b", Tags=[{"Key": "Project", "Value": "x"}]))
        self.assertEqual([(check.action, check.resource) for check in made],
                         [("secretsmanager:CreateSecret", name), ("secretsmanager:TagResource", name)])
        [read] = authorization.checks(call("secretsmanager", "GetSecretValue", SecretId="a/global/b"))
        self.assertEqual(read, Check("secretsmanager:GetSecretValue", name))
        arn = name.replace("??????", "AbCdEf")
        self.assertEqual(authorization.checks(call("secretsmanager", "GetSecretValue", SecretId=arn))[0].resource, arn)

    def test_a_listener_is_tagged_not_its_load_balancer(self) -> None:
        balancer = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/app/a/1"
        flat = {"LoadBalancerArn": balancer, "Tags.member.1.Key": "Project", "Tags.member.1.Value": "tagged-config"}
        self.assertEqual(
            [(check.action, check.resource) for check in authorization.checks(call("elasticloadbalancing", "CreateListener", **flat))],
            [
                ("elasticloadbalancing:CreateListener", balancer),
                ("elasticloadbalancing:AddTags", f"{balancer.replace(':loadbalancer/', ':listener/')}/new"),
            ],
        )

    def test_the_path_of_an_api_without_its_version(self) -> None:
        self.assertEqual(
            authorization.checks(call("apigateway", "", "DELETE", "/v2/apis/a/routes/b")),
            [Check("apigateway:DELETE", "arn:aws:apigateway:eu-west-1::/apis/a/routes/b")],
        )

    def test_what_is_not_known_is_said(self) -> None:
        for unknown in (call("rds", "CreateDBInstance"), call("ec2", "ModifyHosts"), call("ecs", "RunTask", taskDefinition="a")):
            with self.subTest(unknown.operation), self.assertRaisesRegex(authorization.UnknownRequest, unknown.operation):
                authorization.checks(unknown)


class Enforced(unittest.TestCase):
    """The emulator with AUTH=true and a session of a role."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = RunningEmulator()
        cls.addClassCleanup(cls.emulator.stop)
        iam = cls.emulator.client("iam")
        trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}}]}
        tagged, owned = (
            {"StringEquals": {f"aws:{kind}/Project": "tagged-config"}} for kind in ("RequestTag", "ResourceTag")
        )
        network = f"arn:aws:ec2:{REGION}:000000000000:vpc/*"
        policy = {
            "Statement": [
                {"Effect": "Allow", "Action": ["ec2:CreateVpc", "ec2:CreateTags"], "Resource": network, "Condition": tagged},
                {"Effect": "Allow", "Action": "ec2:DeleteVpc", "Resource": network, "Condition": owned},
                {"Effect": "Allow", "Action": "lambda:*", "Resource": "*"},
            ]
        }
        role = iam.create_role(RoleName="deployer", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        cls.other_role = iam.create_role(RoleName="other", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName="deployer", PolicyName="a", PolicyDocument=json.dumps(policy))
        cls.keys = cls.emulator.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]

    def client(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.emulator.url, region_name=REGION, aws_access_key_id=self.keys["AccessKeyId"],
            aws_secret_access_key=self.keys["SecretAccessKey"], aws_session_token=self.keys["SessionToken"],
        )

    def test_created_with_the_tags_and_removed_by_them(self) -> None:
        ec2 = self.client("ec2")
        tags = [{"ResourceType": "vpc", "Tags": [{"Key": "Project", "Value": "tagged-config"}]}]
        own = ec2.create_vpc(CidrBlock="10.1.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
        other = self.emulator.client("ec2").create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
        ec2.delete_vpc(VpcId=own)
        for refused in (lambda: ec2.create_vpc(CidrBlock="10.3.0.0/16"), lambda: ec2.delete_vpc(VpcId=other)):
            with self.assertRaisesRegex(ClientError, "UnauthorizedOperation|AccessDenied"):
                refused()

    def test_a_bucket_of_its_own_name_and_no_other(self) -> None:
        bucket = "tagged-config-blobs-000000000000-us-east-1"
        settings = {
            "PutBucketVersioning": ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
            "PutEncryptionConfiguration": ("put_bucket_encryption", {"ServerSideEncryptionConfiguration": {
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}}),
            "PutBucketPublicAccessBlock": ("put_public_access_block", {"PublicAccessBlockConfiguration": {"BlockPublicPolicy": True}}),
            "PutBucketOwnershipControls": ("put_bucket_ownership_controls", {"OwnershipControls": {
                "Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}),
            "PutLifecycleConfiguration": ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": [
                {"ID": "a", "Status": "Enabled", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 90}}]}}),
            "PutBucketNotification": ("put_bucket_notification_configuration", {
                "NotificationConfiguration": {"EventBridgeConfiguration": {}}}),
            "PutBucketPolicy": ("put_bucket_policy", {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [{
                "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*",
                "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]})}),
        }
        s3, iam = self.client("s3"), self.emulator.client("iam")
        self.emulator.client("s3").create_bucket(Bucket="another")

        def allow(*actions: str) -> None:
            iam.put_role_policy(RoleName="deployer", PolicyName="buckets", PolicyDocument=json.dumps({"Statement": [
                {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": f"arn:aws:s3:::{bucket}"}]}))

        allow("CreateBucket", *settings)
        s3.create_bucket(Bucket=bucket)
        for action, (operation, parameters) in settings.items():
            with self.subTest(action):
                getattr(s3, operation)(Bucket=bucket, **parameters)
                with self.assertRaisesRegex(ClientError, f"s3:{action} on resource: \"arn:aws:s3:::another\""):
                    getattr(s3, operation)(Bucket="another", **parameters)
                allow(*(settings.keys() - {action}))
                with self.assertRaisesRegex(ClientError, f"s3:{action}"):
                    getattr(s3, operation)(Bucket=bucket, **parameters)
                allow(*settings)

    def test_no_role_is_passed_on(self) -> None:
        with self.assertRaisesRegex(ClientError, "iam:PassRole"):
            self.client("lambda").create_function(
                FunctionName="a", Role=self.other_role, Runtime="provided.al2023", Handler="bootstrap", Code={"ZipFile": b"a"}
            )


if __name__ == "__main__":
    unittest.main()
