"""AWS's limits on the emulator: what the extension refuses, and what MiniStack refuses by itself."""

from __future__ import annotations

import unittest
from typing import Any, Callable

from botocore.config import Config
from botocore.exceptions import ClientError

import aws_limits
from tests.running_emulator import RunningEmulator, policy


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Rates(unittest.TestCase):
    """Token buckets, without waiting."""

    def granted(self, limit: Any, operation: str, calls: int) -> int:
        granted = 0
        for _ in range(calls):
            try:
                limit.check(operation, {})
            except aws_limits.Refused as refusal:
                self.assertIn(refusal.code, ("ThrottlingException", "RequestLimitExceeded"))
            else:
                granted += 1
        return granted

    def test_parameter_reads_share_forty_a_second(self) -> None:
        clock = Clock()
        limit = aws_limits.ParameterStore(clock)
        self.assertEqual(self.granted(limit, "GetParameters", 30) + self.granted(limit, "GetParameter", 30), 40)
        clock.now = 0.5
        self.assertEqual(self.granted(limit, "GetParametersByPath", 60), 20)
        self.assertEqual(self.granted(limit, "DescribeParameters", 60), 60)

    def test_discoveries_have_a_bucket(self) -> None:
        clock = Clock()
        limit = aws_limits.Discovery(clock)
        self.assertEqual(self.granted(limit, "DiscoverInstances", 3_000), 2_000)
        clock.now = 0.1
        self.assertEqual(self.granted(limit, "DiscoverInstances", 3_000), 100)


class Limits(unittest.TestCase):
    """Over the wire, by a client that checks nothing itself."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = RunningEmulator()
        cls.addClassCleanup(cls.emulator.stop)
        cls.dynamodb = cls.client("dynamodb")
        cls.dynamodb.create_table(
            TableName="Items", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
        )

    @classmethod
    def client(cls, service: str) -> Any:
        return cls.emulator.client(service, config=Config(parameter_validation=False, retries={"total_max_attempts": 1}))

    def refused(self, call: Callable[[], Any], code: str, *said: str) -> None:
        with self.assertRaises(ClientError) as caught:
            call()
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], code, error)
        for text in said:
            self.assertIn(text, error["Message"])

    def test_ten_names_of_parameters(self) -> None:
        ssm = self.client("ssm")
        names = [f"/a/{number}" for number in range(11)]
        ssm.get_parameters(Names=names[:10])
        self.refused(lambda: ssm.get_parameters(Names=names), "ValidationException",
                     "at 'names' failed to satisfy constraint: Member must have length less than or equal to 10")
        self.refused(lambda: ssm.get_parameters(), "ValidationException", "Value null at 'names'")
        self.refused(lambda: ssm.get_parameters_by_path(Path="/a", MaxResults=11), "ValidationException", "at 'maxResults'")

    def test_parameters(self) -> None:
        ssm = self.client("ssm")

        def put(value: str, name: str = "/size", **more: Any) -> Callable[[], Any]:
            return lambda: ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True, **more)

        self.refused(put(""), "ValidationException", "Member must have length greater than or equal to 1")
        put("x" * 4_096)()
        self.refused(put("x" * 4_097), "ValidationException", "4096")
        # Two bytes each.
        self.refused(put("\u00e9" * 2_049), "ValidationException", "4096")
        put("x" * 8_192, Tier="Advanced")()
        self.refused(put("x" * 8_193, Tier="Advanced"), "ValidationException", "8192")
        put("x" * 4_097, "/smart", Tier="Intelligent-Tiering")()
        self.refused(put("{{ssm:/other}}"), "ValidationException", "{{}}")
        put("1", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15")()
        self.refused(put("1", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16"), "HierarchyLevelLimitExceededException")
        for name in ("a/b", "/a b", "/\u00e4"):
            self.refused(put("1", name), "ValidationException")

    def test_a_secret_is_not_repeated_in_the_message(self) -> None:
        ssm = self.client("ssm")
        with self.assertRaises(ClientError) as caught:
            ssm.put_parameter(Name="/s", Value="hidden", Type="Other")
        self.assertNotIn("hidden", str(caught.exception))

    def test_forty_reads_a_second(self) -> None:
        ssm = self.client("ssm")
        codes = set()
        for _ in range(120):
            try:
                ssm.get_parameters(Names=["/none"])
            except ClientError as error:
                codes.add(error.response["Error"]["Code"])
        self.assertEqual(codes, {"ThrottlingException"})
        path = f"arn:aws:ssm:us-east-1:000000000000:servicesetting{aws_limits.HIGH_THROUGHPUT}"
        ssm.update_service_setting(SettingId=path, SettingValue="true")
        self.addCleanup(ssm.reset_service_setting, SettingId=path)
        for _ in range(120):
            ssm.get_parameters(Names=["/none"])

    def test_items_of_400_kilobytes(self) -> None:
        put = {"TableName": "Items", "Item": {"PK": {"S": "x"}, "v": {"S": "x" * (400 * 1024 - 4)}}}
        self.dynamodb.put_item(**put)
        put["Item"]["v"]["S"] += "x"
        self.refused(lambda: self.dynamodb.put_item(**put), "ValidationException", "size")
        self.refused(lambda: self.dynamodb.update_item(
            TableName="Items", Key={"PK": {"S": "y"}}, UpdateExpression="SET v = :v",
            ExpressionAttributeValues={":v": {"S": "x" * 400 * 1024}}), "ValidationException")

    def test_transactions(self) -> None:
        def write(count: int, size: int = 1) -> Callable[[], Any]:
            return lambda: self.dynamodb.transact_write_items(TransactItems=[
                {"Put": {"TableName": "Items", "Item": {"PK": {"S": str(number)}, "v": {"S": "x" * size}}}} for number in range(count)])

        write(100)()
        self.refused(write(101), "ValidationException")
        self.refused(write(11, 399 * 1024), "ValidationException")

    def test_secrets_of_64_kilobytes(self) -> None:
        secrets = self.client("secretsmanager")
        secrets.create_secret(Name="size", SecretString="x" * 65_536)
        for value in ("x" * 65_537, "\u00e9" * 32_769):  # two bytes each
            self.refused(lambda: secrets.create_secret(Name="large", SecretString=value), "ValidationException", "at 'secretString'", "65536")
        secrets.put_secret_value(SecretId="size", SecretBinary=b"x" * 65_536)
        for call in (secrets.put_secret_value, secrets.update_secret):
            self.refused(lambda: call(SecretId="size", SecretBinary=b"x" * 65_537), "ValidationException", "at 'secretBinary'")

    def test_a_version_of_a_secret_is_written_once(self) -> None:
        secrets = self.client("secretsmanager")
        secrets.create_secret(Name="versions", SecretString="0")
        token = "a-token-of-32-characters-or-more-1"
        put = {"SecretId": "versions", "ClientRequestToken": token}
        self.assertEqual(secrets.put_secret_value(**put, SecretString="1")["VersionId"], token)
        self.assertEqual(secrets.put_secret_value(**put, SecretString="1")["VersionId"], token)
        self.refused(lambda: secrets.put_secret_value(**put, SecretString="2"), "ResourceExistsException", token)
        self.refused(lambda: secrets.put_secret_value(**put, SecretBinary=b"1"), "ResourceExistsException", token)
        self.assertEqual(secrets.get_secret_value(SecretId="versions")["SecretString"], "1")

    def test_twenty_secrets_in_a_batch(self) -> None:
        secrets = self.client("secretsmanager")
        names = [f"batch-{number}" for number in range(21)]
        self.assertEqual(len(secrets.batch_get_secret_value(SecretIdList=names[:20])["Errors"]), 20)
        self.refused(lambda: secrets.batch_get_secret_value(SecretIdList=names), "ValidationException",
                     "at 'secretIdList' failed to satisfy constraint: Member must have length less than or equal to 20")

    def test_objects(self) -> None:
        s3 = self.client("s3")
        s3.create_bucket(Bucket="limits")
        # Two bytes each.
        s3.put_object(Bucket="limits", Key="\u00e9" * 512, Body=b"1")
        self.refused(lambda: s3.put_object(Bucket="limits", Key="x" + "\u00e9" * 512, Body=b"1"), "KeyTooLongError")
        s3.put_object(Bucket="limits", Key="a", Body=b"1", Metadata={"name": "x" * 2_044})
        self.refused(lambda: s3.put_object(Bucket="limits", Key="a", Body=b"1", Metadata={"name": "x" * 2_045}), "MetadataTooLarge")
        self.assertEqual(s3.list_objects_v2(Bucket="limits", MaxKeys=5_000)["MaxKeys"], 1_000)
        self.refused(lambda: s3.list_objects_v2(Bucket="limits", MaxKeys=-1), "InvalidArgument")

    def test_an_object_needs_a_key_that_can_be_used(self) -> None:
        s3, kms = self.client("s3"), self.client("kms")
        s3.create_bucket(Bucket="encrypted")
        key = kms.create_key()["KeyMetadata"]["Arn"]

        def encrypt_with(arn: str) -> None:
            s3.put_bucket_encryption(Bucket="encrypted", ServerSideEncryptionConfiguration={"Rules": [
                {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn}}]})

        encrypt_with(key)
        s3.put_object(Bucket="encrypted", Key="a", Body=b"1")
        kms.disable_key(KeyId=key)
        self.refused(lambda: s3.put_object(Bucket="encrypted", Key="a", Body=b"2"), "KMS.DisabledException", key)
        self.refused(lambda: s3.get_object(Bucket="encrypted", Key="a"), "KMS.DisabledException", key)
        s3.head_object(Bucket="encrypted", Key="a")
        kms.enable_key(KeyId=key)
        self.assertEqual(s3.get_object(Bucket="encrypted", Key="a")["Body"].read(), b"1")
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        self.refused(lambda: s3.get_object(Bucket="encrypted", Key="a"), "KMS.KMSInvalidStateException", key)
        missing = f"{key[:-4]}0000"
        encrypt_with(missing)
        self.refused(lambda: s3.put_object(Bucket="encrypted", Key="b", Body=b"1"), "KMS.NotFoundException", missing)

    def test_what_the_model_constrains(self) -> None:
        key = {"PK": {"S": "x"}}
        self.refused(lambda: self.dynamodb.scan(TableName="Items", Limit=0), "ValidationException", "at 'limit'")
        self.refused(lambda: self.dynamodb.get_item(TableName="Items", Key=key, ReturnConsumedCapacity="ALL"),
                     "ValidationException", "enum value set")
        self.refused(lambda: self.client("servicediscovery").discover_instances(NamespaceName="a"), "InvalidInput", "serviceName")
        self.refused(lambda: self.client("sts").assume_role(RoleArn="x", RoleSessionName="a b"), "ValidationError",
                     "at 'roleArn'", "at 'roleSessionName'")

    def test_descriptions_of_groups(self) -> None:
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.refused(lambda: ec2.create_security_group(GroupName="a", Description="API Gateway's link", VpcId=vpc),
                     "InvalidParameterValue", "Invalid security group description")
        group = ec2.create_security_group(GroupName="a", Description="Link of API Gateway (V2)", VpcId=vpc)["GroupId"]
        rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "a's"}]}
        self.refused(lambda: ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule]), "InvalidParameterValue")

    def test_sizes_of_policies(self) -> None:
        iam = self.client("iam")
        self.emulator.role("large", "lambda.amazonaws.com")

        def document(size: int) -> str:
            return policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{'x' * size}"})

        self.refused(lambda: iam.create_policy(PolicyName="large", PolicyDocument=document(6_144)), "LimitExceeded", "6144")
        iam.put_role_policy(RoleName="large", PolicyName="one", PolicyDocument=document(6_000))
        iam.put_role_policy(RoleName="large", PolicyName="one", PolicyDocument=document(6_000))
        self.refused(lambda: iam.put_role_policy(RoleName="large", PolicyName="two", PolicyDocument=document(6_000)),
                     "LimitExceeded", "10240")
