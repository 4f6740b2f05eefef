"""The remedies that `make local-why` prints."""

from __future__ import annotations

import unittest

from launcher import why

TASK = "arn:aws:sts::000000000000:assumed-role/tagged-config-config-service/config-1"


class Remedies(unittest.TestCase):
    def remedy(self, reason: str, principal: str = TASK) -> str:
        return why.remedy(principal, "ssm:GetParameters", "arn:parameter", reason)

    def test_a_role_and_where_its_policy_stands(self) -> None:
        said = self.remedy("because no identity-based policy allows the ssm:GetParameters action")
        self.assertIn("ssm:GetParameters on arn:parameter in a policy of role tagged-config-config-service", said)
        self.assertIn("terraform/modules/services/roles.tf", said)

    def test_endpoints(self) -> None:
        self.assertIn("an endpoint for that service", self.remedy("because vpc-1 has no VPC endpoint for ssm: on AWS the call times out"))
        self.assertIn("VPC endpoint (terraform/", self.remedy("because no VPC endpoint policy allows the ssm:GetParameters action"))

    def test_denials_and_limits(self) -> None:
        self.assertIn("nothing, while the deny stands", self.remedy("with an explicit deny in an identity-based policy"))
        self.assertIn("permissions boundary", self.remedy("because no permissions boundary allows the ssm:GetParameters action"))
        self.assertIn("session", self.remedy("because no session policy allows the ssm:GetParameters action"))
        self.assertIn("of the resource itself", self.remedy("because no resource-based policy allows the kms:Decrypt action"))

    def test_the_files_are_there(self) -> None:
        from launcher.layout import REPOSITORY

        for file in {*why.ROLES.values(), why.ENDPOINTS}:
            self.assertTrue((REPOSITORY / file).exists(), file)

    def test_unknown_credentials(self) -> None:
        self.assertIn("make -s local-env", self.remedy("UnrecognizedClientException", "access key AKIA"))
