"""Tests of deployed_checks.py: the rules that come from AWS's documents."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path

import deployed_checks


def state(kind: str, **attributes: object) -> deployed_checks.State:
    resource = {"mode": "managed", "type": kind, "name": "this", "instances": [{"attributes": attributes}]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "state")
        file.write_text(json.dumps({"resources": [resource]}))
        return deployed_checks.State(file)


class Texts(unittest.TestCase):
    def check(self, good: bool, kind: str, **attributes: object) -> None:
        found = list(deployed_checks.texts(state(kind, **attributes)))
        self.assertEqual(found == [], good, found)

    def test_a_group_takes_no_apostrophe(self) -> None:
        self.check(True, "aws_security_group", name="a", description="VPC link of API Gateway; (one)")
        self.check(False, "aws_security_group", name="a", description="API Gateway's VPC link")

    def test_patterns_come_from_the_models(self) -> None:
        self.check(True, "aws_wafv2_web_acl", name="a", description="Guards the public API")
        self.check(False, "aws_wafv2_web_acl", name="a", description="Guards the API; all of it")
        self.check(False, "aws_iam_role", name="a" * 65, description="")
        self.check(True, "aws_iam_role", name="a" * 64, description="Writes the VPC's flow log")

    def test_a_target_group_has_32_characters(self) -> None:
        self.check(True, "aws_lb_target_group", name="a" * 32)
        self.check(False, "aws_lb_target_group", name="a" * 33)

    def test_a_tag_takes_no_semicolon(self) -> None:
        self.check(False, "aws_vpc", tags_all={"Purpose": "one; two"})


class Containers(unittest.TestCase):
    def found(self, *environment: str) -> list[str]:
        container = {
            "name": "a", "readonlyRootFilesystem": True, "user": "65532:65532", "linuxParameters": {"capabilities": {"drop": ["ALL"]}},
            "environment": [{"name": name, "value": "x"} for name in environment],
        }
        return list(deployed_checks.containers(state("aws_ecs_task_definition", container_definitions=json.dumps([container]))))

    def test_a_secret_has_no_place_in_the_environment(self) -> None:
        self.assertEqual(self.found("TAGGED_CONFIG_SECRET", "TAGGED_CONFIG_TABLE"), ["TAGGED_CONFIG_SECRET"])

    def test_where_secrets_lie_is_none(self) -> None:
        self.assertEqual(self.found("TAGGED_CONFIG_SECRET_ROOT", "SECRET_ROOT"), [])


if __name__ == "__main__":
    unittest.main()
