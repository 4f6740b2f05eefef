"""Checks an OpenAPI 3.0 document by the rules of API Gateway's importer of REST APIs. moto accepts nearly everything. AWS answers
what it does not know with a warning, which fails the import of an API with `fail_on_warnings`.

Rules: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html and the pages on the
`x-amazon-apigateway-*` extensions.
"""

from __future__ import annotations

import re
from typing import Iterator

METHODS = {"delete", "get", "head", "options", "patch", "post", "put", "x-amazon-apigateway-any-method"}
DOCUMENT = {"openapi", "info", "paths", "components", "security", "servers", "tags"}
PATH_ITEM = METHODS | {"parameters"}
OPERATION = {"description", "operationId", "parameters", "requestBody", "responses", "security", "summary", "tags"}
# Known to OpenAPI and not to API Gateway's models.
SCHEMA = {"additionalProperties", "allOf", "anyOf", "default", "deprecated", "discriminator", "example", "exclusiveMaximum",
          "exclusiveMinimum", "externalDocs", "nullable", "oneOf", "pattern", "readOnly", "writeOnly", "xml"}

_SEGMENT = re.compile(r"[A-Za-z0-9._:,-]+|\{[A-Za-z0-9._-]+\+?\}")
_PARAMETER = re.compile(r"[A-Za-z0-9._$-]+")
_MODEL = re.compile(r"[A-Za-z0-9]+")
_SOURCE = re.compile(r"method\.request\.(path|querystring|header)\.([A-Za-z0-9._$-]+)")
_TARGET = re.compile(r"integration\.request\.(path|querystring|header)\.([A-Za-z0-9._$-]+)")
_PLACES = {"querystring": "query"}


def problems(document: dict) -> Iterator[str]:
    """One line for everything that the importer refuses, ignores or warns of."""
    if not str(document.get("openapi", "")).startswith("3.0."):
        yield f"version {document.get('openapi')}: the importer takes 3.0"
    if not document.get("info", {}).get("title") or not isinstance(document["info"].get("version"), str):
        yield "info: title and version must be there, as strings"
    yield from _unknown("document", document, DOCUMENT)
    schemes = document.get("components", {}).get("securitySchemes", {})
    for path, item in document.get("paths", {}).items():
        yield from _path(path)
        yield from _unknown(path, item, PATH_ITEM)
        for method in METHODS & item.keys():
            operation = item[method]
            where = f"{method} {path}"
            yield from _unknown(where, operation, OPERATION)
            yield from _responses(where, operation)
            yield from _parameters(where, path, [*item.get("parameters", []), *operation.get("parameters", [])], operation)
            for requirement in operation.get("security", document.get("security", [])):
                yield from (f"{where}: security scheme {name} is not declared" for name in requirement if name not in schemes)
    for name, scheme in schemes.items():
        yield from _scheme(name, scheme)
    for name in document.get("components", {}).get("schemas", {}):
        if not _MODEL.fullmatch(name):
            yield f"model {name}: a name has letters and digits only"
    yield from _references(document, document, "document")
    yield from _schemas(document, "document")


def _path(path: str) -> Iterator[str]:
    segments = path.split("/")[1:]
    if not path.startswith("/") or path in ("/ping", "/sping"):
        yield f"{path}: not a path, or one that is reserved"
    for place, segment in enumerate(segments):
        if path != "/" and not _SEGMENT.fullmatch(segment):
            yield f"{path}: the importer does not take the segment {segment!r}"
        if segment.endswith("+}") and place < len(segments) - 1:
            yield f"{path}: something follows the greedy {segment}"


def _responses(where: str, operation: dict) -> Iterator[str]:
    if not operation.get("responses"):
        yield f"{where}: no responses"
    for status, response in operation.get("responses", {}).items():
        if not re.fullmatch(r"[1-5][0-9][0-9]", str(status)):
            yield f"{where}: a response {status}, which API Gateway does not support"
        elif not response.get("description"):
            yield f"{where}: the response {status} has no description"


def _parameters(where: str, path: str, parameters: list[dict], operation: dict) -> Iterator[str]:
    declared = {(parameter["in"], parameter["name"]) for parameter in parameters}
    in_path = {segment.strip("{}").removesuffix("+") for segment in path.split("/") if segment.startswith("{")}
    for parameter in parameters:
        if parameter["in"] not in ("path", "query", "header") or not _PARAMETER.fullmatch(parameter["name"]):
            yield f"{where}: the parameter {parameter['name']} in {parameter['in']}, which API Gateway does not support"
        if parameter["in"] == "path" and parameter.get("required") is not True:
            yield f"{where}: the path parameter {parameter['name']} must be required"
    for name in sorted({name for place, name in declared if place == "path"} ^ in_path):
        yield f"{where}: the path parameter {name} is declared or in the path, and not both"
    yield from _integration(where, operation.get("x-amazon-apigateway-integration"), declared, in_path)


def _integration(where: str, integration: dict | None, declared: set[tuple[str, str]], in_path: set[str]) -> Iterator[str]:
    if not integration:
        yield f"{where}: no integration"
        return
    for name in ("type", "httpMethod", "uri"):
        if not integration.get(name):
            yield f"{where}: the integration has no {name}"
    if integration.get("connectionType") == "VPC_LINK":
        # https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-private-integration.html: a link of V2 wants the target.
        for name in ("connectionId", "integrationTarget"):
            if not integration.get(name):
                yield f"{where}: the integration by VPC link has no {name}"
    if not 50 <= integration.get("timeoutInMillis", 29000) <= 29000:
        yield f"{where}: a timeout beyond 50 to 29000 ms"
    mapped = set()
    for target, source in integration.get("requestParameters", {}).items():
        to, origin = _TARGET.fullmatch(target), _SOURCE.fullmatch(source)
        if not to:
            yield f"{where}: nothing can be mapped to {target}"
        elif to[1] == "path":
            mapped.add(to[2])
        if origin and (_PLACES.get(origin[1], origin[1]), origin[2]) not in declared:
            yield f"{where}: {source} is mapped and not declared"
        if not origin and not re.fullmatch(r"'[^']*'|(context|stageVariables)\.[A-Za-z0-9._]+", source):
            yield f"{where}: {source} is no source of a mapping"
    wanted = set(re.findall(r"\{([^}]*)\}", integration.get("uri", "")))
    if wanted != mapped or not in_path <= mapped:
        yield f"{where}: of the path, {sorted(in_path)} is declared, {sorted(mapped)} mapped, {sorted(wanted)} in the uri"


def _scheme(name: str, scheme: dict) -> Iterator[str]:
    authorizer = scheme.get("x-amazon-apigateway-authorizer")
    if (scheme.get("type"), scheme.get("in")) != ("apiKey", "header") or not scheme.get("name"):
        yield f"security scheme {name}: an authorizer is an apiKey in a header"
    if authorizer and not scheme.get("x-amazon-apigateway-authtype"):
        yield f"security scheme {name}: no x-amazon-apigateway-authtype"
    if authorizer and authorizer.get("type") == "cognito_user_pools" and not authorizer.get("providerARNs"):
        yield f"security scheme {name}: no providerARNs"


def _references(document: dict, value: object, where: str) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and not _resolves(document, reference):
            yield f"{where}: {reference} leads nowhere"
        for key, below in value.items():
            yield from _references(document, below, f"{where}.{key}")
    elif isinstance(value, list):
        for below in value:
            yield from _references(document, below, where)


def _resolves(document: dict, reference: str) -> bool:
    place: object = document
    for part in reference.removeprefix("#/").split("/"):
        place = place.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(place, dict) else None
    return reference.startswith("#/") and place is not None


def _schemas(value: object, where: str) -> Iterator[str]:
    """Keywords of schemas, wherever a schema can be."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "schema":
                yield from _schema(below, where)
            elif key == "schemas":
                for name, schema in below.items():
                    yield from _schema(schema, name)
            elif key in METHODS or not key.startswith("x-"):
                yield from _schemas(below, f"{where}.{key}")
    elif isinstance(value, list):
        for below in value:
            yield from _schemas(below, where)


def _schema(schema: dict, where: str) -> Iterator[str]:
    yield from (f"{where}: the schema's {word} is not supported" for word in sorted(SCHEMA & schema.keys()))
    below = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    for part in below:
        yield from _schema(part, where)


def _unknown(where: str, found: dict, known: set[str]) -> Iterator[str]:
    for key in found:
        if not key.startswith("x-") and key not in known:
            yield f"{where}: {key} is not supported"
