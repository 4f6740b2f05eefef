"""Loopback addresses, ports, and plain HTTP to them (which never goes through a proxy)."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import sys
import urllib.error
import urllib.request
from typing import Any, Iterable, Mapping

from .errors import StackError

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_through_proxy = urllib.request.build_opener()


def no_proxy(*addresses: str) -> dict[str, str]:
    """The variables with which a program reaches these addresses, and the loopback, without the machine's proxy.

    They keep what the person excluded. Both spellings have the same value: programs differ in which one they read.
    """
    own = [entry.strip() for name in ("NO_PROXY", "no_proxy") for entry in os.environ.get(name, "").split(",")]
    value = ",".join(dict.fromkeys(entry for entry in (*own, *LOOPBACK, *addresses) if entry))
    return {"NO_PROXY": value, "no_proxy": value}


def bind_problem(address: str, port: int) -> str | None:
    """One line that says why nothing can listen on this address and what to do, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return f"the loopback address {address} is missing: sudo ifconfig lo0 alias {address} up"
            if error.errno == errno.EADDRINUSE:
                return f"{address}:{port} is taken: stop what listens there (lsof -nP -iTCP:{port} -sTCP:LISTEN)"
            return f"{address}:{port} cannot be used: {error.strerror}"
    return None


def free_port(address: str = "127.0.0.1") -> int:
    """A port that is free on this address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def free_network(hosts: Iterable[int], ports: Iterable[int]) -> str:
    """The first three numbers of a 127.A.B.0/24 in which these hosts can listen on these ports."""
    hosts, ports = list(hosts), list(ports)
    for _ in range(20):
        # macOS has only the aliases that were added by hand: there it is one fixed network beside the default stack's.
        network = "127.0.11" if sys.platform == "darwin" else f"127.{random.randint(16, 250)}.{random.randint(0, 255)}"
        problems = [bind_problem(f"{network}.{host}", port) for host in hosts for port in ports]
        if not any(problems):
            return network
    raise StackError(f"no loopback network is free: {next(filter(None, problems))}")


def accepts(address: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def request(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout_seconds: float = 10.0,
    proxied: bool = False,
) -> tuple[int, bytes]:
    """One HTTP request: its status and body; status 0 when there was no answer.
    `proxied` follows the machine's proxy settings, for addresses that are not of this machine."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    if data is not None:
        call.add_header("Content-Type", "application/json")
    try:
        with (_through_proxy if proxied else _direct).open(call, timeout=timeout_seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, ValueError) as error:
        return 0, str(error).encode()


def is_ready(address: str) -> bool:
    """Whether the service at this host:port reports that it is ready."""
    return request(f"http://{address}/readyz", timeout_seconds=3)[0] == 200
