"""What API Gateway's importer accepts, and each thing that it refuses."""

from __future__ import annotations

import copy
import unittest

import openapi_import

PATH = "/v1/config/{proxy+}"
DOCUMENT = {
    "openapi": "3.0.1",
    "info": {"title": "api", "version": "1"},
    "paths": {
        PATH: {
            "x-amazon-apigateway-any-method": {
                "security": [{"cognito": []}],
                "parameters": [{"name": "proxy", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "any"}},
                "x-amazon-apigateway-integration": {
                    "type": "http_proxy", "httpMethod": "ANY", "uri": "http://balancer/v1/config/{proxy}",
                    "connectionType": "VPC_LINK", "connectionId": "link", "integrationTarget": "arn",
                    "requestParameters": {"integration.request.path.proxy": "method.request.path.proxy"},
                },
            }
        },
    },
    "components": {
        "securitySchemes": {
            "cognito": {
                "type": "apiKey", "name": "Authorization", "in": "header",
                "x-amazon-apigateway-authtype": "cognito_user_pools",
                "x-amazon-apigateway-authorizer": {"type": "cognito_user_pools", "providerARNs": ["arn"]},
            }
        }
    },
}


class Importer(unittest.TestCase):
    def setUp(self) -> None:
        self.document = copy.deepcopy(DOCUMENT)
        self.item = self.document["paths"][PATH]
        self.operation = self.item["x-amazon-apigateway-any-method"]
        self.integration = self.operation["x-amazon-apigateway-integration"]

    def refused(self, word: str) -> None:
        found = list(openapi_import.problems(self.document))
        self.assertTrue(any(word in line for line in found), found)

    def move(self, path: str) -> None:
        self.document["paths"] = {path: self.item}

    def test_takes_the_document(self) -> None:
        self.assertEqual(list(openapi_import.problems(self.document)), [])

    def test_a_default_response(self) -> None:
        self.operation["responses"] = {"default": {"description": "any"}}
        self.refused("a response default")

    def test_a_response_without_a_description(self) -> None:
        self.operation["responses"] = {"200": {}}
        self.refused("no description")

    def test_no_responses(self) -> None:
        self.operation["responses"] = {}
        self.refused("no responses")

    def test_a_character_of_a_path(self) -> None:
        self.move("/v1/con~fig/{proxy+}")
        self.refused("segment 'con~fig'")

    def test_a_parameter_that_is_a_part_of_a_segment(self) -> None:
        self.move("/v1/config-{proxy}")
        self.refused("segment 'config-{proxy}'")

    def test_something_after_a_greedy_parameter(self) -> None:
        self.move("/v1/{proxy+}/more")
        self.refused("follows the greedy")

    def test_a_parameter_that_is_not_declared(self) -> None:
        self.operation["parameters"] = []
        self.refused("the path parameter proxy is declared or in the path")

    def test_a_parameter_that_is_not_mapped(self) -> None:
        del self.integration["requestParameters"]
        self.refused("[] mapped")

    def test_a_parameter_in_a_cookie(self) -> None:
        self.operation["parameters"].append({"name": "session", "in": "cookie"})
        self.refused("session in cookie")

    def test_a_parameter_with_a_colon(self) -> None:
        self.operation["parameters"].append({"name": "a:b", "in": "query"})
        self.refused("a:b in query")

    def test_no_integration(self) -> None:
        del self.operation["x-amazon-apigateway-integration"]
        self.refused("no integration")

    def test_a_link_without_a_target(self) -> None:
        for name in ("connectionId", "integrationTarget", "uri", "httpMethod"):
            with self.subTest(name):
                self.setUp()
                del self.integration[name]
                self.refused(f"has no {name}")

    def test_a_scheme_that_is_not_declared(self) -> None:
        self.operation["security"] = [{"other": []}]
        self.refused("scheme other is not declared")

    def test_an_authorizer_without_pools(self) -> None:
        self.document["components"]["securitySchemes"]["cognito"]["x-amazon-apigateway-authorizer"]["providerARNs"] = []
        self.refused("no providerARNs")

    def test_keywords(self) -> None:
        for holder, word in ((self.document, "externalDocs"), (self.item, "trace"), (self.operation, "callbacks")):
            with self.subTest(word):
                holder[word] = {}
                self.refused(f"{word} is not supported")

    def test_a_keyword_of_a_schema(self) -> None:
        self.operation["parameters"][0]["schema"]["pattern"] = "a"
        self.refused("the schema's pattern")

    def test_a_reference_that_leads_nowhere(self) -> None:
        self.operation["parameters"][0]["schema"] = {"$ref": "#/components/schemas/Name"}
        self.refused("leads nowhere")

    def test_a_later_version(self) -> None:
        self.document["openapi"] = "3.1.0"
        self.refused("version 3.1.0")


if __name__ == "__main__":
    unittest.main()
