"""An emulator extension: HTTP_PROXY integrations of API Gateway pass every answer on as it is.

MiniStack reads the body of an error answer on its event loop. When the integration leads to the emulator's own
load balancer, as ours does, that loop is what should send the body: each 4xx froze the whole emulator for 30 s. It
also drops every header of the answer but the content type, and names that wrongly for errors. AWS does none of it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.parse
from types import ModuleType

import hooks

_HOP_BY_HOP = {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "upgrade"}
_TIMEOUT_SECONDS = 30.0

Answer = tuple[int, dict[str, str], bytes]


def verify(apigateway: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless the function that is replaced is as this module knows it."""
    hooks.require_function(
        apigateway, "_invoke_http_proxy", ["integration", "path", "method", "headers", "body", "query_params"]
    )


def install() -> None:
    """Replaces the proxy of the installed MiniStack."""
    from ministack.services import apigateway

    hooks.require_version(hooks.installed_version())
    verify(apigateway)
    apigateway._invoke_http_proxy = invoke


async def invoke(integration: dict, path: str, method: str, headers: dict, body: bytes, query_params: dict) -> Answer:
    """Sends a request to the integration's address and returns the answer, whatever its status."""
    url = urllib.parse.urlsplit(integration.get("integrationUri", "").rstrip("/") + path)
    query = urllib.parse.urlencode(query_params or {}, doseq=True)
    target = urllib.parse.urlunsplit(("", "", url.path or "/", query, ""))
    sent = {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP | {"host"}}
    try:
        return await asyncio.to_thread(_exchange, url, method, target, body, sent)
    except (OSError, http.client.HTTPException) as error:
        return 502, {"Content-Type": "application/json"}, json.dumps({"message": str(error)}).encode()


def _exchange(url: urllib.parse.SplitResult, method: str, target: str, body: bytes, headers: dict) -> Answer:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname, url.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, target, body=body or None, headers=headers)
        answer = connection.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        return answer.status, kept, answer.read()
    finally:
        connection.close()
