"""The namespace's negative TTL."""

import unittest

import boto3
import discovery
from moto import mock_aws


class NegativeTtl(unittest.TestCase):
    @mock_aws
    def test_it_is_set_once(self) -> None:
        ec2 = boto3.client("ec2", "eu-west-1")
        cloud_map = boto3.client("servicediscovery", "eu-west-1")
        for name in ("other.internal", "tagged-config-dev.internal"):
            vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
            cloud_map.create_private_dns_namespace(Name=name, Vpc=vpc)
        self.assertIn("after 5 s", discovery.shorten_negative_ttl(cloud_map, "tagged-config-dev.internal"))
        self.assertEqual(discovery.shorten_negative_ttl(cloud_map, "tagged-config-dev.internal"), "unchanged")
        others = {one["Name"]: one["Properties"]["DnsProperties"].get("SOA", {}).get("TTL") for one in (
            cloud_map.get_namespace(Id=one["Id"])["Namespace"] for one in cloud_map.list_namespaces()["Namespaces"])}
        self.assertEqual(others["tagged-config-dev.internal"], 5)
        self.assertNotEqual(others["other.internal"], 5)


if __name__ == "__main__":
    unittest.main()
