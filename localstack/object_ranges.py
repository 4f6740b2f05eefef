"""The emulator extension: a part of a version of an object (`Range` with `versionId`), as S3 answers it.

MiniStack knows ranges of the current version only and answers with the whole object, and status 200.

It hooks a private function of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable

import hooks

Answer = tuple[int, dict[str, str], bytes]


def verify(s3: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless every function that is hooked is as this module knows it."""
    hooks.require_function(s3, "_get_object", ["bucket_name", "key", "headers", "query_params"])
    hooks.require_function(s3, "_parse_range", ["range_header", "total"])


def install() -> None:
    """Hooks the installed MiniStack."""
    from ministack.services import s3

    hooks.require_version(hooks.installed_version())
    verify(s3)
    s3._get_object = _with_ranges(s3, s3._get_object)


def _with_ranges(s3: ModuleType, original: Callable[..., Answer]) -> Callable[..., Answer]:
    @functools.wraps(original)
    def get_object(bucket_name: str, key: str, headers: dict[str, str], query_params: dict[str, Any] | None = None) -> Answer:
        status, answered, body = original(bucket_name, key, headers, query_params)
        wanted = headers.get("range", "")
        if not wanted or status != 200 or "Content-Range" in answered:
            return status, answered, body
        found = s3._parse_range(wanted, len(body))
        if found is None:
            refused = {"Content-Type": "application/xml", "Content-Range": f"bytes */{len(body)}"}
            return 416, refused, s3._xml_body(s3._range_error_xml(bucket_name, key))
        start, end = found
        # A checksum is of the whole object.
        kept = {name: value for name, value in answered.items() if not name.lower().startswith("x-amz-checksum")}
        part = body[start:end + 1]
        return 206, kept | {"Content-Length": str(len(part)), "Content-Range": f"bytes {start}-{end}/{len(body)}"}, part

    return get_object
