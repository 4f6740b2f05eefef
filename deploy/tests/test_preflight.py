"""Each check against recorded answers. scripts/aws_checks.py runs the whole on moto, which lacks some calls."""

import datetime
import os
import re
import unittest
from types import SimpleNamespace
from unittest import mock

from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import ClientError
from launcher.layout import REPOSITORY

import artifacts
import preflight
from preflight import OK, STOP, WARN

REGION = "us-east-1"
VARIABLES = {
    "tasks": {"config-service": {"cpu": 1024, "min": 3, "max": 20}, "order-service": {"cpu": 512, "min": 3, "max": 20}},
    "nat": "none", "availability_zone_count": 2, "api_type": "rest", "api_access_logs": True, "architecture": "ARM64",
    "table_name": "TenantConfigurations",
    "invalidator_reserved_concurrency": -1, "load_test_runner": False, "secrets": False, "autoscaling_enabled": True,
}
NOW = datetime.datetime(2026, 3, 7, 12, 0, tzinfo=datetime.timezone.utc)


class Missing(Exception):
    """What the clients raise for what is not there."""


def refused(code: str, message: str = "", operation: str = "GetThing") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class PreflightTest(unittest.TestCase):
    def setUp(self) -> None:
        self.aws = mock.Mock()
        for name in ("NoSuchResourceException", "NoSuchEntityException", "ResourceNotFoundException"):
            setattr(self.aws.exceptions, name, Missing)
        patch = mock.patch.object(preflight.Deployment, "client", lambda _, service: self.aws)
        patch.start()
        self.addCleanup(patch.stop)

    def find(self, check, *, first: bool = True, **variables) -> list[tuple[str, str]]:
        stack = SimpleNamespace(name="prod", prefix="tagged-config-prod", region=REGION)
        deployment = preflight.Deployment(stack, "111111111111", "arn:aws:iam::111111111111:user/a", "AWS_REGION", first,
                                          VARIABLES | variables, True)
        return [(finding.status, str(finding)) for finding in preflight._guarded(check, deployment)]

    def expect(self, status: str, text: str, check, **options) -> None:
        (found,) = self.find(check, **options)
        self.assertEqual(found[0], status, found[1])
        self.assertRegex(found[1], text)

    def quota(self, value: float) -> None:
        self.aws.get_service_quota.return_value = {"Quota": {"Value": value}}

    def test_fargate_wants_room_for_a_rollout_of_all_tasks(self) -> None:
        for quota, status in ((6, STOP), (30, WARN), (60, OK)):
            self.quota(quota)
            self.expect(status, f"{quota} vCPUs in the account, 9 during a rollout, 60 when scaled out", preflight.fargate)
        self.quota(6)
        self.expect(STOP, "request-service-quota-increase .*--desired-value 60", preflight.fargate)

    def test_a_quota_that_nobody_changed_is_awss_default(self) -> None:
        self.aws.get_service_quota.side_effect = Missing
        self.aws.get_aws_default_service_quota.return_value = {"Quota": {"Value": 6}}
        self.expect(STOP, "6 vCPUs", preflight.fargate)

    def test_what_may_not_be_read_is_a_warning_that_names_the_action(self) -> None:
        message = "User: a is not authorized to perform: servicequotas:GetServiceQuota because no identity-based policy allows it"
        self.aws.get_service_quota.side_effect = refused("AccessDeniedException", message)
        self.expect(WARN, r"vCPUs \(L-3032A538\): not checked \(AWS denied servicequotas:GetServiceQuota\)", preflight.fargate)

    def test_vpcs_and_addresses_count_what_is_used(self) -> None:
        self.quota(5)
        self.aws.describe_vpcs.return_value = {"Vpcs": [{}] * 5}
        self.expect(STOP, "5 of 5 used, 1 more wanted.*L-F678F1CE", preflight.vpcs)
        self.aws.describe_addresses.return_value = {"Addresses": [{}] * 4}
        self.expect(STOP, "4 of 5 used, 2 more wanted", preflight.addresses, nat="per_zone")
        self.expect(OK, "1 more wanted", preflight.addresses, nat="single")
        self.assertEqual(self.find(preflight.addresses), [])
        self.assertEqual(self.find(preflight.vpcs, first=False), [])

    def test_lambda_keeps_what_aws_wants_unreserved(self) -> None:
        self.aws.get_account_settings.return_value = {
            "AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 110}
        }
        self.expect(OK, "1000 concurrent", preflight.functions)
        self.expect(STOP, "AWS wants 100 left", preflight.functions, invalidator_reserved_concurrency=20)
        self.aws.get_account_settings.return_value["AccountLimit"]["ConcurrentExecutions"] = 10
        self.expect(WARN, "hold up the invalidator", preflight.functions)

    def test_log_policies_are_ten(self) -> None:
        self.aws.get_paginator.return_value.paginate.return_value = [{"resourcePolicies": [{}] * 10}]
        self.expect(STOP, "10 of 10", preflight.log_policies)

    def test_service_roles_that_are_missing_are_named(self) -> None:
        def get_role(RoleName: str) -> None:
            if "WAF" in RoleName or "AutoScaling" in RoleName:
                raise Missing

        self.aws.get_role.side_effect = get_role
        self.expect(WARN, "no service-linked role yet for ecs.application-autoscaling.amazonaws.com, wafv2.amazonaws.com: .*iam:Create",
                    preflight.service_roles)
        self.expect(WARN, "yet for wafv2.amazonaws.com:", preflight.service_roles, autoscaling_enabled=False)

    def zones(self, *lacking: str, policy: bool = True) -> None:
        self.aws.describe_availability_zones.return_value = {"AvailabilityZones": [
            {"ZoneName": f"us-east-1{letter}", "ZoneId": f"use1-az{number}"} for letter, number in zip("abcd", (3, 1, 2, 4))
        ]}
        self.aws.get_paginator.return_value.paginate.return_value = [{"ServiceDetails": [
            {"ServiceName": f"com.amazonaws.us-east-1.{name}", "VpcEndpointPolicySupported": policy,
             "AvailabilityZones": ["us-east-1b"] if name in lacking else ["us-east-1b", "us-east-1c", "us-east-1d"]}
            for name in preflight.INTERFACE_ENDPOINTS
        ]}]

    def test_zones_are_those_of_link_and_endpoints(self) -> None:
        self.zones()
        self.expect(OK, "can be in us-east-1b, us-east-1c$", preflight.zones)
        self.zones("ssm")
        self.expect(STOP, "endpoint for ssm cannot be in us-east-1c", preflight.zones)
        self.zones(policy=False)
        self.assertEqual(len(self.find(preflight.zones)), len(preflight.INTERFACE_ENDPOINTS))
        self.zones()
        self.expect(STOP, "no endpoint for cognito-idp", preflight.zones, load_test_runner=True)
        self.expect(STOP, "no endpoint for secretsmanager", preflight.zones, secrets=True)
        self.expect(STOP, "only 3 zones", preflight.zones, availability_zone_count=4)

    def test_a_log_role_is_there(self) -> None:
        self.aws.get_account.return_value = {}
        self.expect(STOP, "has no role .*make account-settings", preflight.api_log_role)
        self.assertEqual(self.find(preflight.api_log_role, api_type="http"), [])
        self.assertEqual(self.find(preflight.api_log_role, api_access_logs=False), [])
        self.aws.get_account.return_value = {"cloudwatchRoleArn": "arn:aws:iam::1:role/api/logs"}
        self.expect(OK, "role/api/logs", preflight.api_log_role)
        self.aws.get_role.assert_called_with(RoleName="logs")
        self.aws.get_role.side_effect = refused("AccessDenied")
        self.expect(OK, "role/api/logs", preflight.api_log_role)
        self.aws.get_role.side_effect = Missing
        self.expect(STOP, "no more .*role/api/logs", preflight.api_log_role)

    def test_names_that_are_taken_stop_a_first_deployment_alone(self) -> None:
        with mock.patch.object(preflight.leftovers, "named", return_value=["arn:aws:iam::1:role/tagged-config-prod-execution"]):
            self.expect(STOP, "role/tagged-config-prod-execution, table TenantConfigurations, table TenantConfigurationsHistory, "
                              "table TenantConfigurationsJournal: of a deployment", preflight.names)
            self.assertEqual(self.find(preflight.names, first=False), [])
        self.aws.describe_table.side_effect = Missing
        with mock.patch.object(preflight.leftovers, "named", return_value=[]):
            self.expect(OK, "no name is taken", preflight.names)


class TimeLeftTest(unittest.TestCase):
    def left(self, credentials, **environment: str) -> preflight.Finding:
        with mock.patch.dict(os.environ, environment, clear=True):
            return preflight.time_left(credentials, 40, NOW)

    def test_keys_and_profiles_last(self) -> None:
        self.assertEqual(self.left(Credentials("a", "b")).status, OK)
        renewed = RefreshableCredentials("a", "b", "c", NOW, lambda: {}, "sso")
        self.assertRegex(str(self.left(renewed)), r"^ok +credentials are renewed by themselves \(sso\)")

    def test_temporary_ones_are_held_against_the_expected_length(self) -> None:
        found = Credentials("a", "b", "token")
        self.assertEqual(self.left(found).status, WARN)
        for end, status in (("2026-03-07T13:00:00Z", OK), ("2026-03-07T12:30:00+00:00", WARN), ("2026-03-07T12:02:00Z", STOP)):
            self.assertEqual(self.left(found, AWS_CREDENTIAL_EXPIRATION=end).status, status)
        self.assertIn("expire in 30 minutes, at 12:30 UTC; about 40 minutes are expected",
                      str(self.left(found, AWS_CREDENTIAL_EXPIRATION="2026-03-07T12:30:00Z")))


class RepositoryTest(unittest.TestCase):
    """What the checks assume of the files beside them."""

    def test_endpoints_are_those_of_the_root(self) -> None:
        text = (REPOSITORY / "terraform" / "modules" / "network" / "endpoint_statements" / "outputs.tf").read_text()
        block = text[text.index('output "interface_endpoints"'):text.index('output "gateway_endpoints"')]
        made = set(re.findall(r'^      "?([a-z.-]+)"? *= (?:\[|concat)', block, re.MULTILINE))
        self.assertEqual(made, {*preflight.INTERFACE_ENDPOINTS, *preflight.OPTIONAL_ENDPOINTS.values()})

    def test_zones_without_a_link_are_found(self) -> None:
        self.assertIn("use1-az3", preflight.zones_without_link((REPOSITORY / "terraform" / "aws" / "main.tf").read_text()))

    def test_variables_are_the_roots(self) -> None:
        text = (REPOSITORY / "terraform" / "aws" / "variables.tf").read_text()
        for name in preflight.VARIABLES:
            self.assertIn(f'variable "{name}"', text)

    def test_nothing_runs_on_the_other_processor(self) -> None:
        for file in {*artifacts.IMAGES.values(), artifacts.FUNCTIONS_FILE}:
            stages = (REPOSITORY / file).read_text().split("\nFROM ")[1:]
            for stage in stages:
                if not stage.startswith("--platform=$BUILDPLATFORM"):
                    self.assertNotRegex(stage, r"(?m)^RUN ", file)


if __name__ == "__main__":
    unittest.main()
