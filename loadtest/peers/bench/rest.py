"""The REST interfaces beside a bare axum server that answers as many bytes, and the configuration facade beside Unleash Edge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .rows import Result
from .servers import AXUM, EDGE, KEYS, SERVICE, RestServer
from .setup import Setup, say
from .turns import Figures

TAIL_RATE = 5_000
"""Requests a second of the open loop: the same for all. Half of their capacities is more than its HTTP/1 client can send."""
ORDER = b'{"lines":[{"sku":"book","quantity":2,"unitPrice":"19.99"},{"sku":"pen","quantity":10,"unitPrice":"1.05"}]}'


class Rest:
    """Measures both interfaces and adds their rows."""

    def __init__(self, setup: Setup, result: Result, rounds: int, seconds: float) -> None:
        self._setup, self._result, self._rounds, self._seconds = setup, result, rounds, seconds

    def measure(self) -> None:
        servers = self._setup.servers
        facade = self._setup.rest(SERVICE, servers.http_port, self._setup.service.pid["200 B"], f"/v1/config/{KEYS['200 B']}")
        order = self._setup.rest("order-service", servers.order_port, servers.order_service(self._setup.service), "/v1/orders", ORDER)
        port, pid = servers.rest_floor(order.answer_bytes, facade.answer_bytes)

        def bare(like: RestServer) -> RestServer:
            return RestServer(AXUM, port, pid, like.path, like.body, like.answer_bytes, like.authorizations)

        self._compared("an order's price over REST", order, [bare(order)])
        self._compared("the configuration facade over REST", facade, [bare(facade), *([self._setup.edge] if self._setup.edge else [])])

    def _compared(self, what: str, mine: RestServer, others: list[RestServer]) -> None:
        callers, servers = self._setup.callers, [mine, *others]
        saturation, tail = f"{what}, 64 requests in flight", f"{what}, {TAIL_RATE:,}/s"
        loads: dict[str, Callable[[], Figures]] = {
            server.name: partial(callers.rest_saturation, server, self._seconds) for server in servers
        }
        tails: dict[str, Callable[[], Figures]] = {
            server.name: partial(callers.rest_tail, server, TAIL_RATE, self._seconds) for server in servers
        }
        for name, turn in loads.items():
            say(f"{saturation}, warm-up: {name}")
            turn()
        for number in range(self._rounds):
            self._result.turns.play(saturation, loads, number)
            self._result.turns.play(tail, tails, number)
        for other in others:
            self._result.compare(saturation, "per_second", mine.name, other.name, f"requests/s, to {other.name}")
            self._result.compare(saturation, "cpu_us", mine.name, other.name, f"CPU us/request, to {other.name}")
        if any(other.name == EDGE for other in others):
            self._result.best(saturation, mine.name, [EDGE])
        for other in others:
            target = ("<=", 2.0) if other.name == AXUM else ()
            self._result.compare(tail, "p99_us", mine.name, other.name, f"p99 us, to {other.name}", *target)
        for server in servers:
            self._result.state(tail, f"lag of the load generator, p99 us, {server.name}", self._result.turns.values(tail, server.name, "lag_p99_us"))
