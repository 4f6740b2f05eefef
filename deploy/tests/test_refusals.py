"""Refusals as AWS and Terraform print them."""

import unittest

from botocore.exceptions import ClientError, EndpointConnectionError, UnauthorizedSSOTokenError

import refusals

DENIED = """\
module.images.aws_ecr_repository.this["config-service"]: Creating...

Error: creating ECR Repository (tagged-config-dev/config-service): operation error ECR: CreateRepository, https response error \
StatusCode: 400, RequestID: 1, api error AccessDeniedException: User: arn:aws:iam::1:user/a is not authorized to perform: \
ecr:CreateRepository on resource: arn:aws:ecr:eu-west-1:1:repository/tagged-config-dev/config-service because no identity-based policy

  with module.images.aws_ecr_repository.this["config-service"],
  on ../modules/images/main.tf line 7, in resource "aws_ecr_repository" "this":
   7: resource "aws_ecr_repository" "this" {


Error: something that followed from it
"""
BOXED = """\
╷
│ Error: creating EC2 VPC: operation error EC2: CreateVpc, api error VpcLimitExceeded: The maximum number of VPCs has been reached.
│
│   with module.network.aws_vpc.this,
╵
"""


def refused(code: str, message: str = "", operation: str = "CreateThing") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class AwsTest(unittest.TestCase):
    def test_says_what_to_do(self) -> None:
        for error, expected in (
            (refused("ExpiredTokenException", "The security token included in the request is expired"), "sign in again"),
            (refused("RequestExpired"), "sign in again"),
            (UnauthorizedSSOTokenError(), "sign in again"),
            (refused("InvalidClientTokenId"), "get-caller-identity"),
            (refused("UnauthorizedOperation", "You are not authorized to perform this operation."), "have it allowed"),
            (refused("ServiceQuotaExceededException"), "a quota of the account is reached"),
            (refused("AddressLimitExceeded"), "a quota of the account is reached"),
            (refused("RequestLimitExceeded"), "again in a minute"),
            (refused("ThrottlingException", "Rate exceeded"), "again in a minute"),
            (refused("RepositoryAlreadyExistsException"), "state does not know"),
            (EndpointConnectionError(endpoint_url="https://sts.eu-nowhere-1.amazonaws.com"), "is the region right"),
        ):
            with self.subTest(error=error):
                self.assertRegex(refusals.of_aws(error), f"What to do: .*{expected}")

    def test_a_denied_call_names_action_and_resource(self) -> None:
        message = "User: arn:aws:sts::1:assumed-role/a/b is not authorized to perform: ecs:UpdateService on resource: arn:aws:ecs:x with an " \
            "explicit deny in a service control policy"
        self.assertRegex(
            refusals.of_aws(refused("AccessDeniedException", message)), "^AWS denied ecs:UpdateService on arn:aws:ecs:x. What to do: have it"
        )

    def test_what_is_not_known_is_said_as_it_is(self) -> None:
        self.assertEqual(refusals.of_aws(refused("Odd", "why\n not", "MakeIt")), "AWS refused MakeIt: Odd: why not")
        self.assertEqual(refusals.of_aws(refused("500", "<!doctype html>", "MakeIt")), "AWS refused MakeIt: 500")


class TerraformTest(unittest.TestCase):
    def test_the_first_error_is_picked(self) -> None:
        said = refusals.of_terraform(DENIED)
        self.assertRegex(said, "^AWS denied ecr:CreateRepository on arn:aws:ecr:eu-west-1:1:repository/tagged-config-dev/config-service "
                               r"\(with module.images.*\). What to do: have it allowed")
        self.assertNotIn("followed", said)

    def test_boxes_are_taken_off(self) -> None:
        said = refusals.of_terraform(f"{BOXED}╷\n│ Error: what followed from it\n╵\n")
        self.assertRegex(said.replace("\n", " "), "^creating EC2 VPC.*VpcLimitExceeded.*module.network.aws_vpc.this.*a quota of the account")
        self.assertNotIn("│", said)
        self.assertNotIn("followed", said)

    def test_without_an_error_nothing_is_said(self) -> None:
        self.assertIsNone(refusals.of_terraform("Apply complete!"))

    def test_waiting_helps_with_interfaces_alone(self) -> None:
        self.assertTrue(refusals.may_pass("deleting Security Group: DependencyViolation: resource sg-1 has a dependent object"))
        for message in ("ExpiredToken: The security token", "AWS denied ec2:DeleteVpc", "UnauthorizedOperation"):
            self.assertFalse(refusals.may_pass(message), message)


if __name__ == "__main__":
    unittest.main()
