"""Every example in the services' OpenAPI documents is what its schema says, and every problem that a service answers is in them."""

from __future__ import annotations

import re
import unittest
from pathlib import Path
from typing import Any, Iterator

import yaml
from jsonschema import Draft202012Validator

SERVICES = Path(__file__).resolve().parents[2] / "services"
DOCUMENTS = {service: SERVICES / service / "openapi.yaml" for service in ("config-service", "order-service")}


def examples(node: Any, path: str = "") -> Iterator[tuple[str, dict, Any]]:
    """Where an example stands, its schema, and the example."""
    if isinstance(node, dict):
        schema = node.get("schema")
        if schema is not None and "example" in node:
            yield path, schema, node["example"]
        if schema is not None:
            for name, example in node.get("examples", {}).items():
                yield f"{path}/examples/{name}", schema, example["value"]
        for key, value in node.items():
            if key not in ("example", "examples"):
                yield from examples(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from examples(value, f"{path}/{index}")


class OpenApiDocuments(unittest.TestCase):
    def test_examples_are_what_their_schemas_say(self) -> None:
        for service, file in DOCUMENTS.items():
            document = yaml.safe_load(file.read_text())
            found = list(examples(document))
            self.assertGreaterEqual(len(found), 3, service)
            for path, schema, example in found:
                with self.subTest(service=service, path=path):
                    whole = {"$ref": "#/$defs/it", "$defs": {"it": schema}, "components": document["components"]}
                    self.assertEqual([error.message for error in Draft202012Validator(whole).iter_errors(example)], [])

    def test_every_operation_names_the_answers_that_it_can_get(self) -> None:
        for service, file in DOCUMENTS.items():
            document = yaml.safe_load(file.read_text())
            for path, item in document["paths"].items():
                for method in {"get", "put", "post", "delete"} & item.keys():
                    statuses = set(item[method]["responses"])
                    wanted = {"405"}
                    if item[method].get("security") != []:
                        wanted |= {"400", "401", "429", "500", "503", "504"}
                    if "requestBody" in item[method]:
                        wanted |= {"408", "413"}
                    self.assertEqual(wanted - statuses, set(), f"{service}: {method} {path}")

    def test_headers_of_a_read_are_documented(self) -> None:
        source = (SERVICES / "config-service" / "src" / "transport" / "http.rs").read_text()
        document = yaml.safe_load(DOCUMENTS["config-service"].read_text())
        answers = document["paths"]["/v1/config/{key}"]["get"]["responses"]
        names = set(re.findall(r'HeaderName::from_static\("(x-config-[a-z-]+)"\)', source))
        self.assertGreater(len(names), 5)
        for status in ("200", "304"):
            self.assertEqual(names - {name.lower() for name in answers[status]["headers"]}, set(), status)


if __name__ == "__main__":
    unittest.main()
