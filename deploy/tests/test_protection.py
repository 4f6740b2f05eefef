"""What a Terraform state says about protection, accounts and regions."""

import unittest

import protection


def resource(kind: str, *instances: dict, name: str = "this", module: str | None = None) -> dict:
    place = {"module": module} if module else {}
    return {**place, "mode": "managed", "type": kind, "name": name, "instances": list(instances)}


class ProtectionTest(unittest.TestCase):
    def test_names_what_is_protected_and_nothing_else(self) -> None:
        resources = [
            resource("aws_ecr_repository", {"index_key": "config-service", "attributes": {"force_delete": False}},
                     {"index_key": "order-service", "attributes": {"force_delete": True}}, module="module.images"),
            resource("aws_s3_bucket", {"attributes": {"force_destroy": None}}, name="artifacts", module="module.images"),
            resource("aws_cognito_user_pool", {"attributes": {"deletion_protection": "ACTIVE"}}, module="module.identity"),
            resource("aws_dynamodb_table", {"attributes": {"deletion_protection_enabled": False}}),
            resource("aws_lb", {"index_key": 0, "attributes": {"enable_deletion_protection": True}}),
            resource("aws_vpc", {"attributes": {}}),
        ]
        self.assertEqual(protection.protected(resources), [
            'module.images.aws_ecr_repository.this["config-service"]',
            "module.images.aws_s3_bucket.artifacts",
            "module.identity.aws_cognito_user_pool.this",
            "aws_lb.this[0]",
        ])

    def test_leaves_out_what_an_apply_would_replace(self) -> None:
        attributes = {"attributes": {"force_destroy": False}}
        resources = [resource("aws_s3_bucket", {"status": "tainted", **attributes}, {"deposed": "0a", **attributes})]
        self.assertEqual(protection.protected(resources), [])

    def test_places_are_those_of_the_arns(self) -> None:
        resources = [
            resource("aws_ecr_repository", {"attributes": {"arn": "arn:aws:ecr:eu-west-1:123456789012:repository/a"}}),
            resource("aws_s3_bucket", {"attributes": {"arn": "arn:aws:s3:::bucket"}}),
            resource("aws_vpc", {"attributes": {"id": "vpc-1"}}),
        ]
        self.assertEqual(protection.places(resources), ({"123456789012"}, {"eu-west-1"}))


if __name__ == "__main__":
    unittest.main()
