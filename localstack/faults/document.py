"""Parses and checks the JSON document that sets faults. Every field is optional, and a fault that is left out is off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SERVICES = ("ssm", "dynamodb", "s3", "secretsmanager")
SOURCES = ("parameter-store", "dynamodb")
MOST_MILLISECONDS = 60_000
DEFAULT_LAG_MS = 1_500

Range = tuple[float, float]
"""From and to, in milliseconds."""


class BadDocument(ValueError):
    """An invalid document. The message names the field."""


@dataclass(frozen=True)
class EventFaults:
    """What happens to the changes of one source. Shares are from 0 to 1."""

    drop: float = 0
    duplicate: float = 0
    delay: float = 0
    delay_ms: Range = (0, 0)
    reorder: float = 0


@dataclass(frozen=True)
class CallFaults:
    """What happens to the calls of one service."""

    throttle: float = 0
    error: float = 0
    latency_ms: Range = (0, 0)


@dataclass(frozen=True)
class StaleReads:
    """The share of reads that see what was there `lag_ms` ago."""

    share: float = 0
    lag_ms: float = DEFAULT_LAG_MS


@dataclass(frozen=True)
class Faults:
    """The faults that one document sets."""

    seed: int = 1
    events: dict[str, EventFaults] = field(default_factory=dict)
    invalidator_fail: float = 0
    calls: dict[str, CallFaults] = field(default_factory=dict)
    stale_ssm: StaleReads = StaleReads()
    down: frozenset[str] = frozenset()
    exempt_access_keys: frozenset[str] = frozenset()


def parse(document: Any) -> Faults:
    """The faults of a decoded JSON document, or `BadDocument`."""
    with _Fields(document, "") as top:
        seed = top.get("seed", 1)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise BadDocument("seed must be a whole number")
        exempt = top.get("exempt_access_keys", [])
        if not isinstance(exempt, list) or not all(isinstance(key, str) for key in exempt):
            raise BadDocument("exempt_access_keys must be a list of access key ids")
        with top.fields("events") as events:
            by_source = {source: _event_faults(events, source) for source in SOURCES}
        with top.fields("invalidator") as invalidator:
            fail = invalidator.share("fail")
        with top.fields("calls") as calls:
            by_service = {service: _call_faults(calls, service) for service in SERVICES}
        with top.fields("stale_reads") as stale, stale.fields("ssm") as ssm:
            stale_ssm = StaleReads(ssm.share("share"), ssm.milliseconds("lag_ms", DEFAULT_LAG_MS))
        with top.fields("down") as down:
            gone = frozenset(service for service in SERVICES if down.flag(service))
    return Faults(seed, by_source, fail, by_service, stale_ssm, gone, frozenset(exempt))


def _event_faults(events: _Fields, source: str) -> EventFaults:
    with events.fields(source) as fields:
        faults = EventFaults(
            drop=fields.share("drop"),
            duplicate=fields.share("duplicate"),
            delay=fields.share("delay"),
            delay_ms=fields.range("delay_ms"),
            # A late event of Parameter Store lets the next one pass; a stream keeps its order while it waits.
            reorder=fields.share("reorder") if source == "dynamodb" else 0,
        )
        if faults.delay and not faults.delay_ms[1]:
            raise BadDocument(f"{fields.where('delay')} needs delay_ms")
        return faults


def _call_faults(calls: _Fields, service: str) -> CallFaults:
    with calls.fields(service) as fields:
        return CallFaults(fields.share("throttle"), fields.share("error"), fields.range("latency_ms"))


class _Fields:
    """One object of the document. At the end of its `with` block, a field that was not read is refused."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise BadDocument(f"{path or 'the document'} must be an object")
        self._value = value
        self._path = path
        self._known: list[str] = []

    def __enter__(self) -> _Fields:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        unknown = sorted(self._value.keys() - set(self._known))
        if kind is None and unknown:
            raise BadDocument(f"unknown field {self.where(unknown[0])}: there is {', '.join(self._known)}")

    def where(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def get(self, name: str, default: Any) -> Any:
        self._known.append(name)
        return self._value.get(name, default)

    def fields(self, name: str) -> _Fields:
        return _Fields(self.get(name, {}), self.where(name))

    def share(self, name: str) -> float:
        value = self.get(name, 0)
        if not _is_number(value) or not 0 <= value <= 1:
            raise BadDocument(f"{self.where(name)} must be a number from 0 to 1")
        return value

    def milliseconds(self, name: str, default: float) -> float:
        value = self.get(name, default)
        if not _is_milliseconds(value):
            raise BadDocument(f"{self.where(name)} must be milliseconds from 0 to {MOST_MILLISECONDS}")
        return value

    def range(self, name: str) -> Range:
        value = self.get(name, [0, 0])
        is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_milliseconds, value))
        if not is_pair or value[0] > value[1]:
            raise BadDocument(
                f"{self.where(name)} must be [min, max] in milliseconds, from 0 to {MOST_MILLISECONDS}"
            )
        return value[0], value[1]

    def flag(self, name: str) -> bool:
        value = self.get(name, False)
        if not isinstance(value, bool):
            raise BadDocument(f"{self.where(name)} must be true or false")
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_milliseconds(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= MOST_MILLISECONDS
