"""The extension that enforces IAM as AWS does: over the emulator's own wire, with the stores' own clients."""

from __future__ import annotations

import io
import json
import time
import unittest
import urllib.error
import urllib.request
import zipfile
from typing import Any, Callable

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import append_only
import iam_enforcement
from iam_enforcement import credentials
from tests.running_emulator import SECRET, RunningEmulator, policy

ACCOUNT = "000000000000"
TASKS = "ecs-tasks.amazonaws.com"
TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/Tenants"
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def allow(*actions: str, resource: str | list[str] = "*", **condition: Any) -> dict:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, "Condition": condition}


class IamTest(unittest.TestCase):
    """An emulator with a table `Tenants` of two tenants, a parameter path, and a role for each test."""

    emulator: RunningEmulator
    key: str
    root: Any

    @classmethod
    def start(cls, **variables: str) -> None:
        cls.emulator = RunningEmulator(**variables)
        unittest.addModuleCleanup(cls.emulator.stop)
        cls.key = cls.emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
        cls.root = cls.emulator.client("dynamodb")
        for name, encrypted in (("Tenants", False), ("Encrypted", True)):
            cls.root.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("PK", "SK")],
                BillingMode="PAY_PER_REQUEST",
                **({"SSESpecification": {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": cls.key}} if encrypted else {}),
            )
        ssm = cls.emulator.client("ssm")
        for parameter in ("/config/one", "/config/two", "/internal/credential"):
            ssm.put_parameter(Name=parameter, Value="1", Type="String")
        ssm.put_parameter(Name="/config/secret", Value="hidden", Type="SecureString", KeyId=cls.key)

    def role(self, *statements: dict, vpc: str = "", service: str = TASKS, **condition: dict) -> dict[str, str]:
        """Keys of a task's session of a new role with these statements."""
        self.name = self.id().rpartition(".")[2][:60]
        self.emulator.role(self.name, service, *statements, **condition)
        return self.session(self.name, vpc)

    def session(self, role: str, vpc: str = "", token: str | None = None) -> dict[str, str]:
        path = credentials.path_of(role, vpc, "task-1")
        request = urllib.request.Request(self.emulator.url + path)
        request.add_header("Authorization", credentials.Tokens(SECRET).of(path) if token is None else token)
        with urllib.request.urlopen(request, timeout=10) as answer:
            made = json.load(answer)
        return {
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
            "AWS_SESSION_TOKEN": made["Token"],
        }

    def client(self, service: str, keys: dict[str, str]) -> Any:
        return self.emulator.client(service, keys)

    def denied(self, call: Callable[[], Any], *said: str) -> None:
        """The call is denied, and the message says all of this."""
        with self.assertRaises(ClientError) as caught:
            call()
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], "AccessDeniedException", error)
        for text in ("is not authorized to perform", *said):
            self.assertIn(text, error["Message"])

    def journal(self, method: str = "GET") -> dict:
        request = urllib.request.Request(self.emulator.url + iam_enforcement.PATH, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def setUpModule() -> None:
    IamTest.start()
    Sessions.start(**{iam_enforcement.SESSION_SECONDS_VARIABLE: "2"})


class Requests(IamTest):
    """Resources and condition keys of a request."""

    def test_every_name_of_get_parameters_is_checked(self) -> None:
        ssm = self.client("ssm", self.role(
            allow("ssm:GetParameters", resource=f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/config/*")))
        self.assertEqual(len(ssm.get_parameters(Names=["/config/one", "/config/two"])["Parameters"]), 2)
        for names in (["/internal/credential"], ["/config/one", "/internal/credential"], ["/internal/credential", "/config/one"]):
            self.denied(lambda: ssm.get_parameters(Names=names), "ssm:GetParameters", "parameter/internal/credential")
        self.denied(lambda: ssm.get_parameter(Name="/config/one"), "ssm:GetParameter ")

    def test_a_version_of_a_parameter_is_the_parameter(self) -> None:
        ssm = self.client("ssm", self.role(
            allow("ssm:GetParameter", resource=f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/config/one")))
        self.assertEqual(ssm.get_parameter(Name="/config/one:1")["Parameter"]["Version"], 1)

    def test_a_secure_string_needs_its_key_by_way_of_parameter_store(self) -> None:
        reads = allow("ssm:GetParameters", "ssm:GetParameter")
        via = {"StringEquals": {"kms:ViaService": "ssm.us-east-1.amazonaws.com"}}
        ssm = self.client("ssm", self.role(reads))

        def read() -> Any:
            return ssm.get_parameters(Names=["/config/secret"], WithDecryption=True)["Parameters"][0]["Value"]

        self.denied(read, "kms:Decrypt", self.key)
        ssm.get_parameters(Names=["/config/secret"])
        self.emulator.allow(self.name, reads, allow("kms:Decrypt", StringEquals={"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}))
        self.denied(read, "kms:Decrypt")
        self.emulator.allow(self.name, reads, allow("kms:Decrypt", resource=self.key, **via))
        self.assertEqual(read(), "hidden")
        context = {"kms:EncryptionContext:PARAMETER_ARN": f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/config/other"}
        self.emulator.allow(self.name, reads, allow("kms:Decrypt", StringEquals=context))
        self.denied(read, "kms:Decrypt")

    def test_writing_a_secure_string_needs_its_key(self) -> None:
        ssm = self.client("ssm", self.role(allow("ssm:PutParameter")))
        put = {"Name": "/config/made", "Value": "1", "Type": "SecureString"}
        self.denied(lambda: ssm.put_parameter(**put, KeyId=self.key), "kms:Encrypt")
        ssm.put_parameter(**put)
        # Without a type it stays what it is.
        self.denied(lambda: ssm.put_parameter(Name="/config/secret", Value="1", Overwrite=True, KeyId=self.key), "kms:Encrypt")

    def test_the_history_of_a_parameter_is_the_parameters(self) -> None:
        reads = allow("ssm:GetParameterHistory", resource=f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/config/*")
        ssm = self.client("ssm", self.role(reads))
        self.assertEqual([one["Version"] for one in ssm.get_parameter_history(Name="/config/one")["Parameters"]], [1])
        self.denied(lambda: ssm.get_parameter_history(Name="/internal/credential"), "ssm:GetParameterHistory", "/internal/credential")
        self.denied(lambda: ssm.get_parameter(Name="/config/one"), "ssm:GetParameter ")
        ssm.get_parameter_history(Name="/config/secret")
        history = lambda: ssm.get_parameter_history(Name="/config/secret", WithDecryption=True)["Parameters"][0]["Value"]
        self.denied(history, "kms:Decrypt", self.key)
        self.emulator.allow(self.name, reads, allow(
            "kms:Decrypt", resource=self.key, StringEquals={"kms:ViaService": "ssm.us-east-1.amazonaws.com"}))
        self.assertEqual(history(), "hidden")
        self.emulator.allow(self.name, allow("ssm:GetParameter", "ssm:GetParameters", "kms:Decrypt"))
        self.denied(history, "ssm:GetParameterHistory")

    def test_an_encrypted_table_needs_its_key(self) -> None:
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:GetItem")))
        key = {"PK": {"S": "TENANT#A"}, "SK": {"S": "x"}}
        dynamodb.get_item(TableName="Tenants", Key=key)
        self.denied(lambda: dynamodb.get_item(TableName="Encrypted", Key=key), "kms:Decrypt", self.key)
        self.emulator.allow(self.name, allow("dynamodb:GetItem"), allow(
            "kms:Decrypt", resource=self.key, StringEquals={"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}))
        dynamodb.get_item(TableName="Encrypted", Key=key)

    def test_a_log_group_is_authorized_with_its_streams(self) -> None:
        group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/group"
        self.emulator.client("logs").create_log_group(logGroupName="/group")
        logs = self.client("logs", self.role(allow("logs:FilterLogEvents", resource=f"{group}:*")))
        logs.filter_log_events(logGroupName="/group")
        self.emulator.allow(self.name, allow("logs:FilterLogEvents", resource=group))
        self.denied(lambda: logs.filter_log_events(logGroupName="/group"), "logs:FilterLogEvents")

    def test_discovery_has_its_two_keys(self) -> None:
        cloud_map = self.emulator.client("servicediscovery")
        namespace = cloud_map.create_http_namespace(Name="space")["OperationId"]
        id = cloud_map.get_operation(OperationId=namespace)["Operation"]["Targets"]["NAMESPACE"]
        cloud_map.create_service(Name="service", NamespaceId=id)
        found = self.client("servicediscovery", self.role(allow("servicediscovery:DiscoverInstances", StringEquals={
            "servicediscovery:NamespaceName": "space", "servicediscovery:ServiceName": "service"})))
        found.discover_instances(NamespaceName="space", ServiceName="service")
        for other in ({"NamespaceName": "space", "ServiceName": "other"}, {"NamespaceName": "other", "ServiceName": "service"}):
            self.denied(lambda: found.discover_instances(**other), "servicediscovery:DiscoverInstances on resource: * ")


class OtherResources(IamTest):
    """What holds for one resource of a request holds for no other, and what cannot be read is not passed."""

    def code(self, call: Callable[[], Any]) -> str:
        try:
            call()
        except ClientError as error:
            return error.response["Error"]["Code"]
        return ""

    def raw(
        self, keys: dict[str, str], service: str, target: str, body: str, method: str = "POST", path: str = ""
    ) -> tuple[int, str]:
        """A signed request that no client would send."""
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0"} if target else {}
        request = AWSRequest(method, self.emulator.url + path, data=body.encode(), headers=headers)
        held = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], keys.get("AWS_SESSION_TOKEN"))
        SigV4Auth(held, service, "us-east-1").add_auth(request)
        sent = urllib.request.Request(self.emulator.url + path, body.encode(), dict(request.headers), method=method)
        try:
            with urllib.request.urlopen(sent, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def test_the_tags_of_one_resource_are_not_anothers(self) -> None:
        root = self.emulator.client("ec2")
        vpc = root.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        # The one that is checked first is the tagged one.
        mine, foreign = sorted(
            root.create_vpc_endpoint(VpcId=vpc, ServiceName=f"com.amazonaws.us-east-1.{service}")["VpcEndpoint"]["VpcEndpointId"]
            for service in ("s3", "dynamodb")
        )
        root.create_tags(Resources=[mine], Tags=[{"Key": "Project", "Value": "tagged-config"}])
        tagged = {"StringEquals": {"aws:ResourceTag/Project": "tagged-config"}}
        ec2 = self.client("ec2", self.role(allow("ec2:DeleteVpcEndpoints", **tagged)))
        for ids in ([foreign], [mine, foreign], [foreign, mine]):
            self.assertEqual(self.code(lambda: ec2.delete_vpc_endpoints(VpcEndpointIds=ids)), "UnauthorizedOperation", ids)
        self.assertEqual(self.code(lambda: ec2.delete_vpc_endpoints(VpcEndpointIds=[mine])), "")

    def test_a_request_that_names_no_resource_needs_its_action(self) -> None:
        def disassociate(ec2: Any) -> str:
            return self.code(lambda: ec2.disassociate_address(AssociationId="eipassoc-00000001"))

        self.assertEqual(disassociate(self.client("ec2", self.role(allow("s3:GetObject")))), "UnauthorizedOperation")
        unknown = {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN000000000", "AWS_SECRET_ACCESS_KEY": "x"}
        self.assertEqual(disassociate(self.client("ec2", unknown)), "AuthFailure")
        arn = f"arn:aws:ec2:us-east-1:{ACCOUNT}:elastic-ip/*"
        self.emulator.role(f"{self.name}-2", TASKS, allow("ec2:DisassociateAddress", resource=arn))
        self.assertNotEqual(disassociate(self.client("ec2", self.session(f"{self.name}-2"))), "UnauthorizedOperation")

    def test_a_role_to_assume_is_named_and_a_deny_of_it_holds(self) -> None:
        for role in ("free", "admin"):
            self.emulator.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps({
                "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]}))
        arns = {role: f"arn:aws:iam::{ACCOUNT}:role/{role}" for role in ("free", "admin")}
        deny = {"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": arns["admin"]}
        sts = self.client("sts", self.role(allow("sts:AssumeRole", resource=list(arns.values())), deny))
        sts.assume_role(RoleArn=arns["free"], RoleSessionName="session")
        self.assertEqual(self.code(lambda: sts.assume_role(RoleArn=arns["admin"], RoleSessionName="session")), "AccessDenied")

    def test_objects_are_deleted_by_their_own_keys(self) -> None:
        root = self.emulator.client("s3")
        root.create_bucket(Bucket="objects")
        keys = self.role(allow("s3:DeleteObject", resource="arn:aws:s3:::objects/*"),
                         {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::objects/kept"})
        s3 = self.client("s3", keys)
        s3.delete_object(Bucket="objects", Key="a")
        s3.delete_objects(Bucket="objects", Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
        for several in (["kept", "a"], ["a", "kept"]):
            objects = [{"Key": key} for key in several]
            self.assertEqual(self.code(lambda: s3.delete_objects(Bucket="objects", Delete={"Objects": objects})), "AccessDenied")

    def test_an_alias_stands_for_its_key(self) -> None:
        self.emulator.client("kms").create_alias(AliasName="alias/one", TargetKeyId=self.key)
        other = self.emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
        self.client("kms", self.role(allow("kms:DescribeKey", resource=self.key))).describe_key(KeyId="alias/one")
        self.emulator.role(f"{self.name}-2", TASKS, allow("kms:DescribeKey", resource=other))
        kms = self.client("kms", self.session(f"{self.name}-2"))
        self.denied(lambda: kms.describe_key(KeyId="alias/one"), f"on resource: {self.key}")

    def test_a_path_of_an_older_version_has_its_action(self) -> None:
        keys = self.role(allow("s3:GetObject"))
        status, said = self.raw(keys, "lambda", "", "", "DELETE", "/2014-01-01/functions/f")
        self.assertEqual((status, "lambda:DeleteFunction" in said), (403, True), said)

    def test_what_an_object_holds_asks_for_nothing(self) -> None:
        self.emulator.client("s3").create_bucket(Bucket="contents")
        s3 = self.client("s3", self.role(allow("s3:PutObject")))
        for body in (b'{"Role": "arn:aws:iam::1:role/a"}', b'{"tags": ["a"]}', b'{"Tags": {"a": "b"}}'):
            s3.put_object(Bucket="contents", Key="a", Body=body)

    def test_a_batch_is_about_its_items_whatever_table_it_names_beside_them(self) -> None:
        keys = self.role(allow("dynamodb:BatchGetItem", resource=TABLE))
        other = {"Encrypted": {"Keys": [{"PK": {"S": "a"}, "SK": {"S": "b"}}]}}
        for beside in ("Tenants", ""):
            status, said = self.raw(keys, "dynamodb", "DynamoDB_20120810.BatchGetItem", json.dumps({
                "TableName": beside, "RequestItems": other}))
            self.assertEqual((status, "not authorized" in said), (403, True), said)

    def test_half_written_requests_are_refused_and_harm_nothing(self) -> None:
        root = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        keys = self.role(allow("dynamodb:*", "ssm:*", "kms:*", "ecs:*", "secretsmanager:*"))
        bodies = {
            "DynamoDB_20120810.BatchWriteItem": [{"RequestItems": {"Tenants": [{}]}}, {"RequestItems": {"Tenants": None}}],
            "DynamoDB_20120810.GetItem": [{"TableName": "Tenants", "Key": key} for key in ({"PK": "x"}, [1], "ab", None)],
            "DynamoDB_20120810.BatchGetItem": [{"RequestItems": {"Tenants": {"Keys": "ab"}}}, {"RequestItems": []}],
            "DynamoDB_20120810.Query": [{"TableName": "Tenants", "KeyConditionExpression": 1}],
            "DynamoDB_20120810.CreateTable": [{"TableName": "New", "SSESpecification": "x", "Tags": ["a"]}],
            "DynamoDB_20120810.ExecuteStatement": [{"Statement": 1}, {"Statement": "INSERT"}, {"Parameters": 1}, {}],
            "DynamoDB_20120810.BatchExecuteStatement": [{"Statements": [1]}, {"Statements": {}}, {"Statements": []}],
            "DynamoDB_20120810.ExecuteTransaction": [
                {"TransactStatements": one} for one in ([1], {}, [], [{"Statement": 'INSERT INTO "Tenants" VALUE ?', "Parameters": "a"}])],
            "DynamoDB_20120810.TransactWriteItems": [{"TransactItems": [1, {"Put": []}]}, {"TransactItems": {}}],
            "AmazonSSM.GetParameters": [{"Names": [1]}, {"Names": 1}],
            "AmazonSSM.PutParameter": [{"Name": 1, "Value": "a", "Type": "String", "Tags": ["a"]}],
            "TrentService.DescribeKey": [{"KeyId": "arn:x"}, {"KeyId": 1}],
            "secretsmanager.GetSecretValue": [{"SecretId": 1}, {"SecretId": ["a"]}, {"SecretId": "a", "VersionId": []}, {}],
            "secretsmanager.PutSecretValue": [{"SecretId": "a", "SecretBinary": "!", "ClientRequestToken": {}}, {"SecretId": None}],
            "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition": [{"family": "f", "tags": ["a"]}],
        }
        services = {
            "AmazonEC2ContainerServiceV20141113": "ecs", "AmazonSSM": "ssm", "DynamoDB_20120810": "dynamodb", "TrentService": "kms",
            "secretsmanager": "secretsmanager",
        }
        for target, several in bodies.items():
            service = services[target.partition(".")[0]]
            for body in several:
                for who in (keys, root):
                    status, said = self.raw(who, service, target, json.dumps(body))
                    self.assertIn(status, (200, 400, 403), f"{target} {body}: {said}")
        self.root.list_tables()

    def test_an_endpoint_policy_that_is_not_json_is_refused(self) -> None:
        ec2 = self.emulator.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
        for text in ("{", "[]"):
            made = self.code(lambda: ec2.create_vpc_endpoint(
                VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", PolicyDocument=text))
            self.assertEqual(made, "InvalidPolicyDocument")


class Objects(IamTest):
    """Objects of S3, as config-service and the invalidator call it."""

    BUCKET = "blobs"
    ARN = f"arn:aws:s3:::{BUCKET}"
    VIA = {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}

    @classmethod
    def setUpClass(cls) -> None:
        cls.owner = cls.emulator.client("s3")
        for bucket, has_bucket_key in ((cls.BUCKET, True), ("plain", None), ("without-bucket-key", False)):
            cls.owner.create_bucket(Bucket=bucket)
            cls.owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            if has_bucket_key is not None:
                cls.owner.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [{
                    "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": cls.key},
                    "BucketKeyEnabled": has_bucket_key}]})
            cls.version = cls.owner.put_object(Bucket=bucket, Key="tenants/A/one", Body=b"1")["VersionId"]
        cls.owner.put_bucket_policy(Bucket=cls.BUCKET, Policy=policy({
            "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [cls.ARN, f"{cls.ARN}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}}}))

    def s3(self, *statements: dict, vpc: str = "") -> Any:
        return self.client("s3", self.role(*statements, vpc=vpc))

    def refused(self, call: Callable[[], Any], *said: str, code: str = "AccessDenied") -> None:
        """S3 denies with 403, or answers with this code."""
        with self.assertRaises(ClientError) as caught:
            call()
        answer = caught.exception.response
        self.assertEqual(answer["Error"]["Code"], code, answer)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 404 if code.startswith("NoSuch") else 403)
        for text in said:
            self.assertIn(text, answer["Error"]["Message"])

    def test_each_action_on_the_objects_that_its_resource_names(self) -> None:
        plain = "arn:aws:s3:::plain"
        calls = {
            "s3:GetObject": lambda s3, key: s3.get_object(Bucket="plain", Key=key),
            "s3:PutObject": lambda s3, key: s3.put_object(Bucket="plain", Key=key, Body=b"1"),
            "s3:DeleteObject": lambda s3, key: s3.delete_object(Bucket="plain", Key=f"{key}-none"),
        }
        self.owner.put_object(Bucket="plain", Key="global/one", Body=b"1")
        s3 = self.s3(allow("s3:ListAllMyBuckets"))
        for action, call in calls.items():
            with self.subTest(action):
                self.emulator.allow(self.name, allow(action, resource=f"{plain}/tenants/*"))
                call(s3, "tenants/A/one")
                self.refused(lambda: call(s3, "global/one"), f'not authorized to perform: {action} on resource: "{plain}/global/one')
                self.emulator.allow(self.name, allow(*(calls.keys() - {action}), "s3:GetObjectVersion", "s3:ListBucket"))
                self.refused(lambda: call(s3, "tenants/A/one"), f"perform: {action} on resource", "no identity-based policy")

    def test_a_version_has_an_action_of_its_own(self) -> None:
        s3 = self.s3(allow("s3:GetObject"))
        version = self.owner.head_object(Bucket="plain", Key="tenants/A/one")["VersionId"]
        read = lambda **more: s3.get_object(Bucket="plain", Key="tenants/A/one", **more)
        read()
        self.refused(lambda: read(VersionId=version), "s3:GetObjectVersion on resource")
        self.refused(lambda: read(VersionId=version, Range="bytes=0-0"), "s3:GetObjectVersion on resource")
        self.emulator.allow(self.name, allow("s3:GetObjectVersion", resource="arn:aws:s3:::plain/tenants/*"))
        self.assertEqual(read(VersionId=version)["Body"].read(), b"1")
        self.refused(read, "s3:GetObject on resource")

    def test_who_may_list_learns_that_an_object_is_missing(self) -> None:
        reads = allow("s3:GetObject", "s3:GetObjectVersion", resource="arn:aws:s3:::plain/*")
        s3 = self.s3(reads)
        missing = lambda: s3.get_object(Bucket="plain", Key="tenants/A/none")
        removed = lambda: s3.get_object(Bucket="plain", Key="tenants/A/removed")
        head = lambda: s3.head_object(Bucket="plain", Key="tenants/A/none")
        version = lambda: s3.get_object(Bucket="plain", Key="tenants/A/one", VersionId="0f7c2b0e-0000-4000-8000-000000000000")
        self.owner.put_object(Bucket="plain", Key="tenants/A/removed", Body=b"1")
        self.owner.delete_object(Bucket="plain", Key="tenants/A/removed")
        for call in (missing, removed, version):
            self.refused(call, 's3:ListBucket on resource: "arn:aws:s3:::plain"')
        self.refused(head, code="403")
        # As terraform/modules/services/blobs.tf has it: a read of a missing object has no prefix.
        prefix = {"StringLikeIfExists": {"s3:prefix": ["tenants/*", "global/*"]}}
        self.emulator.allow(self.name, reads, allow("s3:ListBucket", resource="arn:aws:s3:::plain", **prefix))
        for call, code in ((missing, "NoSuchKey"), (removed, "NoSuchKey"), (version, "NoSuchVersion")):
            self.refused(call, code=code)
        with self.assertRaisesRegex(ClientError, "404"):
            head()
        self.emulator.allow(self.name, reads, allow("s3:ListBucket", StringLike={"s3:prefix": ["tenants/*"]}))
        self.refused(missing, "s3:ListBucket")

    def test_a_list_has_its_prefix(self) -> None:
        s3 = self.s3(allow("s3:ListBucket", resource="arn:aws:s3:::plain", StringLike={"s3:prefix": ["tenants/A/*"]}))
        self.assertIn("tenants/A/one", [one["Key"] for one in s3.list_objects_v2(Bucket="plain", Prefix="tenants/A/")["Contents"]])
        for prefix in ("tenants/B/", ""):
            self.refused(lambda: s3.list_objects_v2(Bucket="plain", Prefix=prefix), 's3:ListBucket on resource: "arn:aws:s3:::plain"')
        self.refused(lambda: s3.list_objects_v2(Bucket=self.BUCKET, Prefix="tenants/A/"), "s3:ListBucket")

    def test_a_list_of_versions_has_an_action_of_its_own(self) -> None:
        prefix = {"StringLike": {"s3:prefix": ["tenants/A/*"]}}
        s3 = self.s3(allow("s3:ListBucketVersions", resource="arn:aws:s3:::plain", **prefix))
        versions = lambda **where: s3.list_object_versions(**{"Bucket": "plain", "Prefix": "tenants/A/one", **where})["Versions"]
        version = self.owner.head_object(Bucket="plain", Key="tenants/A/one")["VersionId"]
        self.assertIn(version, [one["VersionId"] for one in versions()])
        for where in ({"Prefix": "tenants/B/one"}, {"Prefix": ""}, {"Bucket": "without-bucket-key"}):
            name = where.get("Bucket", "plain")
            self.refused(lambda: versions(**where), f's3:ListBucketVersions on resource: "arn:aws:s3:::{name}"')
        self.refused(lambda: s3.list_objects_v2(Bucket="plain", Prefix="tenants/A/"), "s3:ListBucket on resource")
        self.emulator.allow(self.name, allow("s3:ListBucket", "s3:GetObjectVersion", "s3:GetObject"))
        self.refused(versions, "s3:ListBucketVersions on resource")

    def test_an_encrypted_object_needs_its_key(self) -> None:
        all_objects = allow("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject", resource=f"{self.ARN}/*")
        s3 = self.s3(all_objects)
        read = lambda **more: s3.get_object(Bucket=self.BUCKET, Key="tenants/A/one", **more)
        put = lambda key="tenants/A/two": s3.put_object(Bucket=self.BUCKET, Key=key, Body=b"1")
        version = self.owner.head_object(Bucket=self.BUCKET, Key="tenants/A/one")["VersionId"]
        for call in (read, lambda: read(VersionId=version)):
            self.refused(call, f"kms:Decrypt on resource: {self.key}")
        self.refused(put, f"kms:GenerateDataKey on resource: {self.key}")
        s3.head_object(Bucket=self.BUCKET, Key="tenants/A/one")
        self.emulator.allow(self.name, all_objects, allow("kms:Decrypt", resource=self.key, **self.VIA))
        self.assertEqual(read(VersionId=version)["Body"].read(), b"1")
        self.refused(put, "kms:GenerateDataKey")
        self.emulator.allow(self.name, all_objects, allow("kms:GenerateDataKey", resource=self.key, **self.VIA))
        put()
        s3.delete_object(Bucket=self.BUCKET, Key="tenants/A/two")
        self.refused(read, "kms:Decrypt")
        ssm = {"StringEquals": {"kms:ViaService": "ssm.us-east-1.amazonaws.com"}}
        self.emulator.allow(self.name, all_objects, allow("kms:Decrypt", "kms:GenerateDataKey", **ssm))
        self.refused(read, "kms:Decrypt")

    def test_the_encryption_context_is_the_object_or_with_a_bucket_key_the_bucket(self) -> None:
        s3 = self.s3(allow("s3:GetObject"))
        for bucket, context in ((self.BUCKET, self.ARN), ("without-bucket-key", "arn:aws:s3:::without-bucket-key/tenants/A/one")):
            condition = {"StringEquals": {"kms:EncryptionContext:aws:s3:arn": context}}
            self.emulator.allow(self.name, allow("s3:GetObject"), allow("kms:Decrypt", **condition))
            s3.get_object(Bucket=bucket, Key="tenants/A/one")
        self.refused(lambda: s3.get_object(Bucket=self.BUCKET, Key="tenants/A/one"), "kms:Decrypt")

    def test_a_copy_and_an_upload_in_parts_need_their_keys(self) -> None:
        objects = allow("s3:GetObject", "s3:PutObject")
        s3 = self.s3(objects, allow("kms:GenerateDataKey"))
        source = {"Bucket": self.BUCKET, "Key": "tenants/A/one"}
        self.refused(lambda: s3.copy_object(Bucket="plain", Key="copy", CopySource=source), "kms:Decrypt")
        upload = s3.create_multipart_upload(Bucket=self.BUCKET, Key="parts")["UploadId"]
        part = lambda: s3.upload_part(Bucket=self.BUCKET, Key="parts", UploadId=upload, PartNumber=1, Body=b"1")
        self.refused(part, "kms:Decrypt")
        self.emulator.allow(self.name, objects, allow("kms:Decrypt"))
        part()
        s3.copy_object(Bucket="plain", Key="copy", CopySource=source)
        self.refused(lambda: s3.create_multipart_upload(Bucket=self.BUCKET, Key="parts"), "kms:GenerateDataKey")

    def test_a_bucket_policy_that_wants_tls_is_met_and_another_deny_holds(self) -> None:
        self.owner.create_bucket(Bucket="guarded")
        self.owner.put_bucket_policy(Bucket="guarded", Policy=policy({
            "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::guarded/kept"}))
        s3 = self.s3(allow("s3:*"))
        s3.put_object(Bucket="guarded", Key="free", Body=b"1")
        self.refused(lambda: s3.put_object(Bucket="guarded", Key="kept", Body=b"1"), "explicit deny in a resource-based policy")
        reader = self.session(self.name)
        self.emulator.allow(self.name, allow("s3:*"), allow("kms:*"))
        self.client("s3", reader).get_object(Bucket=self.BUCKET, Key="tenants/A/one")

    def test_its_endpoint_is_a_gateway_and_has_a_policy(self) -> None:
        ec2 = self.emulator.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
        s3 = self.s3(EVERYTHING, vpc=vpc)
        read = lambda key="tenants/A/one": s3.get_object(Bucket=self.BUCKET, Key=key)
        self.refused(read, "no VPC endpoint for s3")
        mine = {**allow("s3:GetObject", resource=f"{self.ARN}/tenants/*"), "Principal": "*"}
        made = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway",
                                       PolicyDocument=policy(mine))["VpcEndpoint"]["VpcEndpointId"]
        # The key is S3's to use: the caller's network has no endpoint of KMS.
        self.assertEqual(read()["Body"].read(), b"1")
        self.refused(lambda: s3.put_object(Bucket=self.BUCKET, Key="tenants/A/x", Body=b"1"), "no VPC endpoint policy allows the s3:PutObject action")
        self.refused(lambda: read("tenants/A/none"), "no VPC endpoint policy allows the s3:ListBucket action")
        listing = {**allow("s3:ListBucket", resource=self.ARN), "Principal": "*"}
        ec2.modify_vpc_endpoint(VpcEndpointId=made, PolicyDocument=policy(mine, listing))
        self.refused(lambda: read("tenants/A/none"), code="NoSuchKey")


class Secrets(IamTest):
    """Secrets, by name and by ARN."""

    ROOT = "tagged-config/config"
    PREFIX = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:{ROOT}"

    @classmethod
    def setUpClass(cls) -> None:
        cls.owner = cls.emulator.client("secretsmanager")
        cls.arns = {
            path: cls.owner.create_secret(Name=f"{cls.ROOT}/{path}", SecretString=path, **more)["ARN"]
            for path, more in {
                "tenants/A/one": {}, "tenants/B/one": {}, "global/one": {}, "tenants/A/encrypted": {"KmsKeyId": cls.key},
            }.items()
        }

    def secrets(self, *statements: dict, vpc: str = "") -> Any:
        return self.client("secretsmanager", self.role(*statements, vpc=vpc))

    def test_each_action_on_the_secrets_below_a_path(self) -> None:
        secrets = self.secrets(allow("secretsmanager:GetRandomPassword"))
        calls = {
            "secretsmanager:GetSecretValue": secrets.get_secret_value,
            "secretsmanager:DescribeSecret": secrets.describe_secret,
            "secretsmanager:ListSecretVersionIds": secrets.list_secret_version_ids,
        }
        for action, call in calls.items():
            with self.subTest(action):
                self.emulator.allow(self.name, allow(action, resource=f"{self.PREFIX}/tenants/*"))
                self.assertEqual(call(SecretId=f"{self.ROOT}/tenants/A/one")["ARN"], self.arns["tenants/A/one"])
                self.assertEqual(call(SecretId=self.arns["tenants/A/one"])["Name"], f"{self.ROOT}/tenants/A/one")
                self.denied(lambda: call(SecretId=f"{self.ROOT}/global/one"), action, f"on resource: {self.arns['global/one']} ")
                for other in calls.keys() - {action}:
                    self.denied(lambda: calls[other](SecretId=f"{self.ROOT}/tenants/A/one"), other)

    def test_the_six_characters_are_a_part_of_the_resource(self) -> None:
        name = f"{self.ROOT}/tenants/A/one"
        secrets = self.secrets(allow("secretsmanager:GetSecretValue", resource=f"{self.PREFIX}/tenants/A/one"))
        self.denied(lambda: secrets.get_secret_value(SecretId=name), self.arns["tenants/A/one"])
        # Nor does an ARN without them name another resource.
        self.denied(lambda: secrets.get_secret_value(SecretId=f"{self.PREFIX}/tenants/A/one"), self.arns["tenants/A/one"])
        for pattern in (f"{self.PREFIX}/tenants/A/one-??????", self.arns["tenants/A/one"]):
            self.emulator.allow(self.name, allow("secretsmanager:GetSecretValue", resource=pattern))
            secrets.get_secret_value(SecretId=name)

    def test_a_secret_that_is_missing_is_found_missing_by_who_may_read_it(self) -> None:
        secrets = self.secrets(allow("secretsmanager:GetSecretValue", resource=f"{self.PREFIX}/tenants/*"))
        with self.assertRaises(secrets.exceptions.ResourceNotFoundException):
            secrets.get_secret_value(SecretId=f"{self.ROOT}/tenants/A/none")
        self.denied(lambda: secrets.get_secret_value(SecretId=f"{self.ROOT}/global/none"), "secretsmanager:GetSecretValue")

    def test_an_encrypted_secret_needs_its_key(self) -> None:
        name = f"{self.ROOT}/tenants/A/encrypted"
        every = allow("secretsmanager:*")
        secrets = self.secrets(every)
        read, put = (lambda: secrets.get_secret_value(SecretId=name)), (lambda: secrets.put_secret_value(SecretId=name, SecretString="2"))
        self.denied(read, f"kms:Decrypt on resource: {self.key}")
        self.denied(put, "kms:GenerateDataKey")
        self.denied(lambda: secrets.create_secret(Name="made", SecretString="1", KmsKeyId=self.key), "kms:GenerateDataKey")
        secrets.describe_secret(SecretId=name)
        secrets.list_secret_version_ids(SecretId=name)
        via = {"StringEquals": {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com",
                                "kms:EncryptionContext:SecretARN": self.arns["tenants/A/encrypted"]}}
        self.emulator.allow(self.name, every, allow("kms:Decrypt", resource=self.key, **via))
        version = read()["VersionId"]
        self.denied(put, "kms:GenerateDataKey")
        self.emulator.allow(self.name, every, allow("kms:Decrypt", StringEquals={"kms:EncryptionContext:SecretVersionId": version}))
        read()
        self.emulator.allow(self.name, every, allow("kms:Decrypt", StringEquals={"kms:ViaService": "ssm.us-east-1.amazonaws.com"}))
        self.denied(read, "kms:Decrypt")
        self.emulator.allow(self.name, every, allow("kms:Decrypt", "kms:GenerateDataKey", resource=self.key))
        put()

    def test_the_stage_of_a_version_is_a_condition(self) -> None:
        name = f"{self.ROOT}/global/one"
        secrets = self.secrets(allow("secretsmanager:GetSecretValue", StringEquals={"secretsmanager:VersionStage": "AWSCURRENT"}))
        secrets.get_secret_value(SecretId=name)
        self.denied(lambda: secrets.get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS"), "GetSecretValue")

    def test_its_endpoint_has_a_policy(self) -> None:
        ec2 = self.emulator.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.6.0.0/16")["Vpc"]["VpcId"]
        secrets = self.secrets(EVERYTHING, vpc=vpc)
        read = lambda path: secrets.get_secret_value(SecretId=f"{self.ROOT}/{path}")
        self.denied(lambda: read("tenants/A/one"), "no VPC endpoint for secretsmanager")
        ec2.create_vpc_endpoint(
            VpcId=vpc, ServiceName="com.amazonaws.us-east-1.secretsmanager", VpcEndpointType="Interface",
            PolicyDocument=policy({**allow("secretsmanager:GetSecretValue", resource=f"{self.PREFIX}/tenants/*"), "Principal": "*"}))
        read("tenants/A/one")
        read("tenants/A/encrypted")
        self.denied(lambda: read("global/one"), "no VPC endpoint policy allows the secretsmanager:GetSecretValue action")
        self.denied(lambda: secrets.describe_secret(SecretId=f"{self.ROOT}/tenants/A/one"), "no VPC endpoint policy")


class LeadingKeys(IamTest):
    """`dynamodb:LeadingKeys` of every kind of call."""

    def setUp(self) -> None:
        super().setUp()
        for tenant in ("A", "B"):
            self.root.put_item(TableName="Tenants", Item=self.item(tenant))

    @staticmethod
    def key(tenant: str, sort: str = "x") -> dict:
        return {"PK": {"S": f"TENANT#{tenant}"}, "SK": {"S": sort}}

    @classmethod
    def item(cls, tenant: str) -> dict:
        return cls.key(tenant) | {"value": {"S": "1"}}

    def calls(self, dynamodb: Any, tenant: str) -> dict[str, Callable[[], Any]]:
        """Every kind of call on a tenant's items."""
        key, item = self.key(tenant), self.item(tenant)
        mine = self.key("A", "mine")
        put = {"Put": {"TableName": "Tenants", "Item": item}}
        return {
            "GetItem": lambda: dynamodb.get_item(TableName="Tenants", Key=key),
            "PutItem": lambda: dynamodb.put_item(TableName="Tenants", Item=item),
            "UpdateItem": lambda: dynamodb.update_item(
                TableName="Tenants", Key=key, UpdateExpression="SET #v = :v", ExpressionAttributeNames={"#v": "value"},
                ExpressionAttributeValues={":v": {"S": "2"}}),
            "DeleteItem": lambda: dynamodb.delete_item(TableName="Tenants", Key=self.key(tenant, "none")),
            "Query": lambda: dynamodb.query(
                TableName="Tenants", KeyConditionExpression="PK = :p", ExpressionAttributeValues={":p": key["PK"]}),
            "Query by alias": lambda: dynamodb.query(
                TableName="Tenants", KeyConditionExpression="#p = :p AND begins_with(SK, :s)",
                ExpressionAttributeNames={"#p": "PK"}, ExpressionAttributeValues={":p": key["PK"], ":s": {"S": "x"}}),
            "BatchGetItem": lambda: dynamodb.batch_get_item(RequestItems={"Tenants": {"Keys": [mine, key]}}),
            "BatchWriteItem": lambda: dynamodb.batch_write_item(
                RequestItems={"Tenants": [{"PutRequest": {"Item": mine}}, {"PutRequest": {"Item": item}}]}),
            "TransactGetItems": lambda: dynamodb.transact_get_items(
                TransactItems=[{"Get": {"TableName": "Tenants", "Key": key}}]),
            "TransactWriteItems": lambda: dynamodb.transact_write_items(
                TransactItems=[{"Put": {"TableName": "Tenants", "Item": mine}}, put]),
        }

    def hold(self, *statements: dict, session_tags: dict[str, str] | None = None) -> None:
        dynamodb = self.client("dynamodb", self.role(*statements))
        for name, call in self.calls(dynamodb, "A").items():
            with self.subTest(name, tenant="A"):
                call()
        for name, call in self.calls(dynamodb, "B").items():
            with self.subTest(name, tenant="B"):
                self.denied(call, "dynamodb:")

    def test_a_set_operator(self) -> None:
        self.hold(allow("dynamodb:*", **{"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["TENANT#A"]}}))

    def test_a_pattern_that_must_be_there(self) -> None:
        self.hold(allow("dynamodb:*", **{
            "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["TENANT#A*"]}, "Null": {"dynamodb:LeadingKeys": "false"}}))

    def test_without_a_key_null_denies_a_scan(self) -> None:
        keyed = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["TENANT#A*"]}}
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:*", **keyed, Null={"dynamodb:LeadingKeys": "false"})))
        self.denied(lambda: dynamodb.scan(TableName="Tenants"), "dynamodb:Scan")

    def test_the_items_of_a_transaction_are_checked_one_by_one(self) -> None:
        key = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["TENANT#A"]}}
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:PutItem", **key), allow(
            "dynamodb:PutItem", resource=f"{TABLE.removesuffix('Tenants')}Encrypted"), allow("kms:Decrypt")))
        put = [{"Put": {"TableName": "Tenants", "Item": self.item("A")}}, {"Put": {"TableName": "Encrypted", "Item": self.key("J")}}]
        dynamodb.transact_write_items(TransactItems=put)
        self.denied(lambda: dynamodb.transact_write_items(TransactItems=[*put, {"Put": {"TableName": "Tenants", "Item": self.item("B")}}]))
        self.denied(lambda: dynamodb.transact_write_items(
            TransactItems=[{"Delete": {"TableName": "Tenants", "Key": self.key("A")}}]), "dynamodb:DeleteItem")


class Statements(IamTest):
    """PartiQL: each statement is an action of its own, on its table."""

    INSERT = """INSERT INTO "Tenants" VALUE {'PK': ?, 'SK': ?, 'value': ?}"""
    UPDATE = """UPDATE "Tenants" SET "value"=? WHERE "PK"=? AND "SK"=?"""
    DELETE = """DELETE FROM "Tenants" WHERE "PK"=? AND "SK"=?"""
    SELECT = """SELECT * FROM "Tenants" WHERE "PK"=? AND "SK"=?"""
    EXISTS = f"""EXISTS({SELECT} AND "value"=?)"""
    ACTIONS = {"Insert": INSERT, "Update": UPDATE, "Delete": DELETE, "Select": SELECT}

    def setUp(self) -> None:
        super().setUp()
        self.sort = self.id().rpartition(".")[2]
        self.item = {"PK": {"S": f"TENANT#{self.sort}"}, "SK": {"S": self.sort}}

    def statement(self, text: str, partition: str = "") -> dict:
        """The statement, about this test's item, or one of another partition."""
        key, value = [{"S": partition} if partition else self.item["PK"], {"S": self.sort}], [{"S": "1"}]
        parameters = [*value, *key] if text == self.UPDATE else [*key, *value] if text in (self.INSERT, self.EXISTS) else key
        return {"Statement": text, "Parameters": parameters}

    def test_who_may_insert_alone_can_replace_nothing(self) -> None:
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:PartiQLInsert", resource=TABLE)))
        insert = self.statement(self.INSERT)
        dynamodb.execute_statement(**insert)
        with self.assertRaises(dynamodb.exceptions.DuplicateItemException):
            dynamodb.execute_statement(**insert)
        [answer] = dynamodb.batch_execute_statement(Statements=[insert])["Responses"]
        self.assertEqual(answer["Error"]["Code"], "DuplicateItem")
        with self.assertRaises(dynamodb.exceptions.TransactionCanceledException) as cancelled:
            dynamodb.execute_transaction(TransactStatements=[insert])
        self.assertEqual([one["Code"] for one in cancelled.exception.response["CancellationReasons"]], ["DuplicateItem"])
        attempts = append_only.attempts(dynamodb, "Tenants", self.item)
        self.assertEqual(len(attempts), 29)
        for name, call in attempts.items():
            with self.subTest(name):
                self.denied(call, f"on resource: {TABLE} ")
        self.assertEqual(append_only.problem(dynamodb, "Tenants", self.item), "")
        found = self.root.query(TableName="Tenants", KeyConditionExpression="PK = :p", ExpressionAttributeValues={":p": self.item["PK"]})
        self.assertEqual(found["Count"], 1, "nothing came with what was denied")
        self.assertEqual(self.root.get_item(TableName="Tenants", Key=self.item)["Item"]["value"], {"S": "1"})

    def test_each_action_of_a_change_is_noticed(self) -> None:
        item = {"PK": {"S": "TENANT#E"}, "SK": {"S": self.sort}}
        self.root.put_item(TableName="Tenants", Item=item)
        appends = allow("dynamodb:PartiQLInsert", resource=TABLE)
        dynamodb = self.client("dynamodb", self.role(appends))
        problem = lambda: append_only.problem(dynamodb, "Tenants", item)
        self.assertEqual(problem(), "")
        for action in ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "PartiQLUpdate", "PartiQLDelete"):
            self.emulator.allow(self.name, appends, allow(f"dynamodb:{action}", resource=TABLE))
            self.assertIn("on an item that is there", problem(), action)
            self.root.put_item(TableName="Tenants", Item=item)
        self.emulator.allow(self.name, allow("dynamodb:GetItem"))
        self.assertIn("INSERT of an item that is there: AccessDeniedException", problem())
        self.assertEqual(append_only.problem(dynamodb, "Tenants", item, may_add=False), "")
        self.emulator.allow(self.name, appends)
        self.assertIn("INSERT of a new item", append_only.problem(dynamodb, "Tenants", item, may_add=False))

    def test_each_statement_has_its_action(self) -> None:
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:ListTables")))
        for action, text in self.ACTIONS.items():
            for way, call in append_only.ways(dynamodb, self.statement(text)).items():
                with self.subTest(action, way=way):
                    self.root.put_item(TableName="Tenants", Item=self.item)
                    if action == "Insert":
                        self.root.delete_item(TableName="Tenants", Key=self.item)
                    self.emulator.allow(self.name, allow(f"dynamodb:PartiQL{action}", resource=TABLE))
                    call()
                    others = [f"dynamodb:PartiQL{other}" for other in self.ACTIONS if other != action]
                    item_actions = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
                    self.emulator.allow(self.name, allow(*others, *item_actions, f"dynamodb:{way}"))
                    self.denied(call, f"dynamodb:PartiQL{action} ", TABLE)
                    self.emulator.allow(self.name, allow(f"dynamodb:PartiQL{action}", resource=TABLE.replace("Tenants", "Encrypted")))
                    self.denied(call, f"dynamodb:PartiQL{action} ", TABLE)

    def test_exists_is_a_read(self) -> None:
        self.root.put_item(TableName="Tenants", Item=self.item | {"value": {"S": "1"}})
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:PartiQLInsert")))
        both = [self.statement(self.EXISTS), self.statement(self.INSERT, "TENANT#C")]
        self.denied(lambda: dynamodb.execute_transaction(TransactStatements=both), "dynamodb:PartiQLSelect")
        self.emulator.allow(self.name, allow("dynamodb:PartiQLInsert", "dynamodb:PartiQLSelect"))
        dynamodb.execute_transaction(TransactStatements=both)

    def test_an_index_is_a_resource_of_its_own(self) -> None:
        self.root.create_table(
            TableName="Indexed", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "by")],
            GlobalSecondaryIndexes=[{"IndexName": "ByPerson", "KeySchema": [{"AttributeName": "by", "KeyType": "HASH"}],
                                     "Projection": {"ProjectionType": "ALL"}}])
        table = TABLE.replace("Tenants", "Indexed")
        mine = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["me"]}, "Null": {"dynamodb:LeadingKeys": "false"}}
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:PartiQLSelect", resource=f"{table}/index/*", **mine)))

        def select(source: str, where: str = "", *parameters: str) -> Any:
            more = {"Parameters": [{"S": one} for one in parameters]} if parameters else {}
            return dynamodb.execute_statement(Statement=f"SELECT * FROM {source} {where}", **more)

        select('"Indexed"."ByPerson"', 'WHERE "by"=?', "me")
        select('"Indexed"."ByPerson"', """WHERE "by"='me'""")
        select('"Indexed"."ByPerson"', 'WHERE "by" IN [?, ?]', "me", "me")
        for where, *parameters in (('WHERE "by"=?', "you"), ('WHERE "by" IN [?, ?]', "me", "you"), ('WHERE "PK"=?', "me"), ("",)):
            self.denied(lambda: select('"Indexed"."ByPerson"', where, *parameters), "dynamodb:PartiQLSelect", f"{table}/index/ByPerson")
        self.denied(lambda: select('"Indexed"', 'WHERE "PK"=?', "me"), f"on resource: {table} ")

    def test_the_partition_key_of_each_statement_is_a_condition(self) -> None:
        mine = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["TENANT#A*"]}, "Null": {"dynamodb:LeadingKeys": "false"}}
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:PartiQL*", **mine)))
        for action, text in self.ACTIONS.items():
            for tenant in ("A", "B"):
                key = {"PK": {"S": f"TENANT#{tenant}"}, "SK": {"S": self.sort}}
                for way, call in append_only.ways(dynamodb, self.statement(text, f"TENANT#{tenant}")).items():
                    with self.subTest(action, way=way, tenant=tenant):
                        self.root.put_item(TableName="Tenants", Item=key)
                        if action == "Insert":
                            self.root.delete_item(TableName="Tenants", Key=key)
                        call() if tenant == "A" else self.denied(call, f"dynamodb:PartiQL{action}")
        # Behind one that is allowed, as a literal, and as a whole item.
        allowed = self.statement(self.SELECT, "TENANT#A")
        self.denied(lambda: dynamodb.execute_transaction(TransactStatements=[allowed, self.statement(self.SELECT, "TENANT#B")]))
        self.denied(lambda: dynamodb.execute_statement(Statement="""DELETE FROM "Tenants" WHERE 'TENANT#B'="PK" AND "SK"='x'"""))
        self.denied(lambda: dynamodb.execute_statement(Statement='INSERT INTO "Tenants" VALUE ?', Parameters=[{"M": {
            "PK": {"S": "TENANT#B"}, "SK": {"S": "x"}}}]))
        for anything in ('SELECT * FROM "Tenants"', """SELECT * FROM "Tenants" WHERE "PK"='TENANT#A' OR "PK"='TENANT#B'"""):
            self.denied(lambda: dynamodb.execute_statement(Statement=anything), "dynamodb:PartiQLSelect")

    def test_statements_on_an_encrypted_table_need_its_key(self) -> None:
        inserts = allow("dynamodb:PartiQLInsert")
        dynamodb = self.client("dynamodb", self.role(inserts))
        insert = {**self.statement(self.INSERT), "Statement": self.INSERT.replace("Tenants", "Encrypted")}
        for call in append_only.ways(dynamodb, insert).values():
            self.denied(call, f"kms:Decrypt on resource: {self.key}")
        self.emulator.allow(self.name, inserts, allow(
            "kms:Decrypt", resource=self.key, StringEquals={"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}))
        dynamodb.execute_transaction(TransactStatements=[insert])

    def test_a_policy_tells_transactions_from_other_calls(self) -> None:
        enclosed = {"StringEquals": {"dynamodb:EnclosingOperation": "ExecuteTransaction"}}
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:PartiQLInsert", **enclosed)))
        calls = append_only.ways(dynamodb, self.statement(self.INSERT))
        calls.pop("ExecuteTransaction")()
        for call in calls.values():
            self.denied(call, "dynamodb:PartiQLInsert")
        put = [{"Put": {"TableName": "Tenants", "Item": self.item}}]
        self.denied(lambda: dynamodb.transact_write_items(TransactItems=put), "dynamodb:PutItem")
        writes = {"StringEquals": {"dynamodb:EnclosingOperation": "TransactWriteItems"}}
        self.emulator.allow(self.name, allow("dynamodb:PutItem", **writes))
        dynamodb.transact_write_items(TransactItems=put)
        self.denied(lambda: dynamodb.put_item(**put[0]["Put"]), "dynamodb:PutItem")
        self.emulator.allow(self.name, allow("dynamodb:*", Null={"dynamodb:EnclosingOperation": "true"}))
        dynamodb.execute_statement(**self.statement(self.DELETE))
        self.denied(lambda: dynamodb.execute_transaction(TransactStatements=[self.statement(self.INSERT)]), "dynamodb:PartiQLInsert")

    def test_what_cannot_be_parsed_is_refused(self) -> None:
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:*")))
        good = self.statement(self.INSERT)
        for bad in ("DROP", 'UPDATE "Tenants"', 'DELETE FROM "Tenants" WHERE "PK"=?', "x"):
            for call in append_only.ways(dynamodb, {"Statement": bad}).values():
                self.denied(call, "UnreadableRequest")
            self.denied(lambda: dynamodb.execute_transaction(TransactStatements=[good, {"Statement": bad}]), "UnreadableRequest")
            with self.assertRaises(ClientError) as caught:
                self.root.execute_statement(Statement=bad)
            self.assertEqual(caught.exception.response["Error"]["Code"], "ValidationException")


class Variables(IamTest):
    """Policy variables."""

    def tagged(self, *statements: dict, tags: dict[str, str]) -> Any:
        """A DynamoDB client of a session with these tags."""
        name = self.id().rpartition(".")[2][:60]
        iam = self.emulator.client("iam")
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))
        self.emulator.allow(name, *statements)
        made = self.emulator.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}", RoleSessionName="session",
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()])["Credentials"]
        return self.client("dynamodb", {
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
            "AWS_SESSION_TOKEN": made["SessionToken"],
        })

    def read(self, dynamodb: Any, tenant: str) -> Any:
        return dynamodb.get_item(TableName="Tenants", Key={"PK": {"S": f"TENANT#{tenant}"}, "SK": {"S": "x"}})

    OWN = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["TENANT#${aws:PrincipalTag/tenant}"]}}

    def test_a_tag_in_a_condition(self) -> None:
        dynamodb = self.tagged(allow("dynamodb:GetItem", **self.OWN), tags={"tenant": "A"})
        self.read(dynamodb, "A")
        self.denied(lambda: self.read(dynamodb, "B"), "dynamodb:GetItem")

    def test_an_allow_without_its_tag_allows_nothing(self) -> None:
        dynamodb = self.tagged(allow("dynamodb:GetItem", **self.OWN), tags={"other": "A"})
        self.denied(lambda: self.read(dynamodb, "A"))

    def test_a_deny_without_its_tag_denies(self) -> None:
        guard = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {
            "ForAnyValue:StringNotEquals": {"dynamodb:LeadingKeys": ["TENANT#${aws:PrincipalTag/tenant}"]}}}
        dynamodb = self.tagged(EVERYTHING, guard, tags={"other": "A"})
        self.denied(lambda: self.read(dynamodb, "A"), "explicit deny")

    def test_a_variable_in_a_resource_and_a_default(self) -> None:
        resource = "arn:aws:dynamodb:us-east-1:${aws:PrincipalAccount}:table/${aws:PrincipalTag/table, 'Tenants'}"
        self.read(self.tagged(allow("dynamodb:GetItem", resource=resource), tags={"x": "y"}), "A")


class Endpoints(IamTest):
    """VPC endpoints and their policies."""

    def setUp(self) -> None:
        super().setUp()
        self.ec2 = self.emulator.client("ec2")
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    def endpoint(self, service: str, *statements: dict) -> str:
        document = {"PolicyDocument": policy(*({**one, "Principal": "*"} for one in statements))} if statements else {}
        return self.ec2.create_vpc_endpoint(
            VpcId=self.vpc, ServiceName=f"com.amazonaws.us-east-1.{service}", **document)["VpcEndpoint"]["VpcEndpointId"]

    def test_a_call_needs_an_endpoint(self) -> None:
        ssm = self.client("ssm", self.role(EVERYTHING, vpc=self.vpc))
        self.denied(lambda: ssm.get_parameters(Names=["/config/one"]), "no VPC endpoint for ssm")
        self.endpoint("ssm")
        ssm.get_parameters(Names=["/config/one"])

    def test_discovery_has_an_endpoint_of_its_own(self) -> None:
        cloud_map = self.client("servicediscovery", self.role(EVERYTHING, vpc=self.vpc))
        self.endpoint("servicediscovery")
        self.denied(lambda: cloud_map.discover_instances(NamespaceName="a", ServiceName="b"), "data-servicediscovery")

    def test_its_policy_narrows_what_the_role_may(self) -> None:
        dynamodb = self.client("dynamodb", self.role(EVERYTHING, vpc=self.vpc))
        key = {"PK": {"S": "TENANT#A"}, "SK": {"S": "x"}}
        made = self.endpoint("dynamodb", allow("dynamodb:GetItem", resource=TABLE, StringEquals={"aws:PrincipalAccount": ACCOUNT}))
        dynamodb.get_item(TableName="Tenants", Key=key)
        self.denied(lambda: dynamodb.scan(TableName="Tenants"), "no VPC endpoint policy allows the dynamodb:Scan action")
        self.denied(lambda: dynamodb.get_item(TableName="Encrypted", Key=key), "no VPC endpoint policy")
        self.ec2.modify_vpc_endpoint(VpcEndpointId=made, PolicyDocument=policy({**allow("dynamodb:*"), "Principal": "*"}))
        dynamodb.scan(TableName="Tenants")

    def test_its_policy_gives_nothing_that_the_role_may_not(self) -> None:
        dynamodb = self.client("dynamodb", self.role(allow("dynamodb:GetItem"), vpc=self.vpc))
        self.endpoint("dynamodb")
        self.denied(lambda: dynamodb.scan(TableName="Tenants"), "no identity-based policy allows the dynamodb:Scan action")

    def test_a_policy_may_ask_for_the_endpoint(self) -> None:
        made = self.endpoint("ssm")
        ssm = self.client("ssm", self.role(allow("ssm:GetParameters", StringEquals={"aws:SourceVpce": made}), vpc=self.vpc))
        ssm.get_parameters(Names=["/config/one"])
        outside = self.client("ssm", self.session(self.name))
        self.denied(lambda: outside.get_parameters(Names=["/config/one"]))


class Sessions(IamTest):
    """The credentials endpoint, and trust policies of services."""

    def status(self, call: Callable[[], Any]) -> int:
        with self.assertRaises(urllib.error.HTTPError) as caught:
            call()
        with caught.exception as answer:
            return answer.code

    def test_a_session_is_the_roles_and_ends(self) -> None:
        sts = self.client("sts", self.role(EVERYTHING))
        self.assertEqual(sts.get_caller_identity()["Arn"], f"arn:aws:sts::{ACCOUNT}:assumed-role/{self.name}/task-1")
        time.sleep(2.1)
        with self.assertRaises(ClientError) as caught:
            sts.get_caller_identity()
        self.assertIn("Expired", caught.exception.response["Error"]["Code"])

    def test_each_task_has_a_token_of_its_own(self) -> None:
        self.role(EVERYTHING)
        other = credentials.Tokens(SECRET).of(credentials.path_of("another", "", "task-1"))
        for token in ("", "Bearer x", other, "\u00e9"):
            self.assertEqual(self.status(lambda: self.session(self.name, token=token.encode().decode("latin-1"))), 401)

    def test_a_role_must_trust_tasks(self) -> None:
        self.emulator.role("of-lambda", "lambda.amazonaws.com", EVERYTHING)
        self.assertEqual(self.status(lambda: self.session("of-lambda")), 403)
        self.assertEqual(self.status(lambda: self.session("of-nobody")), 403)
        self.emulator.role("elsewhere", TASKS, EVERYTHING, StringEquals={"aws:SourceAccount": "111111111111"})
        self.assertEqual(self.status(lambda: self.session("elsewhere")), 403)
        self.emulator.role("here", TASKS, EVERYTHING, StringEquals={"aws:SourceAccount": ACCOUNT},
                           ArnLike={"aws:SourceArn": f"arn:aws:ecs:us-east-1:{ACCOUNT}:*"})
        self.session("here")

    def test_a_function_needs_a_role_that_trusts_lambda(self) -> None:
        functions = self.emulator.client("lambda")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("index.py", "import boto3\ndef handler(event, context):\n    return boto3.client('sts').get_caller_identity()['Arn']\n")

        def invoke(name: str, service: str) -> dict:
            functions.create_function(FunctionName=name, Runtime="python3.12", Handler="index.handler", Timeout=20,
                                      Role=self.emulator.role(name, service, EVERYTHING), Code={"ZipFile": archive.getvalue()})
            return json.load(functions.invoke(FunctionName=name)["Payload"])

        self.assertEqual(invoke("trusted", "lambda.amazonaws.com"), f"arn:aws:sts::{ACCOUNT}:assumed-role/trusted/trusted")
        self.assertIn("its trust policy refuses", json.dumps(invoke("untrusted", TASKS)))


class Reasons(IamTest):
    """The journal, and who is blamed."""

    def test_the_journal_has_calls_and_denials(self) -> None:
        self.journal("DELETE")
        ssm = self.client("ssm", self.role(allow("ssm:GetParameters")))
        ssm.get_parameters(Names=["/config/one"])
        self.denied(lambda: ssm.get_parameter(Name="/config/one"))
        found = self.journal()
        mine = f"arn:aws:sts::{ACCOUNT}:assumed-role/{self.name}/task-1"
        parameter = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/config/one"
        self.assertIn({"principal": mine, "action": "ssm:GetParameters", "resource": parameter, "count": 1}, found["calls"])
        [denial] = found["denials"]
        self.assertEqual((denial["principal"], denial["action"], denial["resource"]), (mine, "ssm:GetParameter", parameter))
        self.assertEqual(denial["reason"], "because no identity-based policy allows the ssm:GetParameter action")
        self.assertEqual(self.journal("DELETE"), {"calls": [], "denials": []})

    def test_a_boundary_is_named(self) -> None:
        iam = self.emulator.client("iam")
        ssm = self.client("ssm", self.role(EVERYTHING))
        boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=policy(allow("ssm:GetParameter")))["Policy"]["Arn"]
        iam.put_role_permissions_boundary(RoleName=self.name, PermissionsBoundary=boundary)
        ssm.get_parameter(Name="/config/one")
        self.denied(lambda: ssm.get_parameters(Names=["/config/one"]), "no permissions boundary allows the ssm:GetParameters action")

    def test_unknown_credentials_are_noted(self) -> None:
        self.journal("DELETE")
        stranger = self.client("ssm", {"AWS_ACCESS_KEY_ID": "AKIASTRANGER", "AWS_SECRET_ACCESS_KEY": "x"})
        with self.assertRaises(ClientError):
            stranger.get_parameters(Names=["/config/one"])
        [denial] = self.journal()["denials"]
        self.assertEqual((denial["principal"], denial["reason"]), ("access key AKIASTRANGER", "UnrecognizedClientException"))
