"""The rows of the result: a figure or a ratio with its interval, its target, and a verdict from the interval alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .intervals import Interval, interval, verdict
from .turns import Turns

LATE = 0.2
"""If the load generator's own lag is above this part of the answers' p99, there is no verdict."""
BUSY = 0.9
"""Below this, the processors of a server were not saturated: the client was the limit."""


class BenchError(Exception):
    """An error that ends the run with one message."""


@dataclass(frozen=True)
class Row:
    """One line. `found` is the interval of the ratio, or of the figure itself where there is no `other`."""

    section: str
    what: str
    mine: float
    other: float | None
    found: Interval
    relation: str = ""
    wanted: float = 0
    doubt: str = ""
    """Why the figure cannot decide, whatever its interval is."""

    @property
    def verdict(self) -> str:
        if not self.relation:
            return ""
        return "undecided" if self.doubt else verdict(self.found, self.relation, self.wanted)


@dataclass
class Result:
    """The rows of a run, with all that they come from."""

    turns: Turns
    about: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def compare(
        self, section: str, figure: str, mine: str, other: str, what: str, relation: str = "", wanted: float = 0, doubt: str = "",
    ) -> Row:
        """Adds the ratio of a figure of two servers, from the pairs of measurements. `doubt`: why it cannot decide, if that is known."""
        ratios = self.turns.ratios(section, mine, other, figure)
        if not ratios:
            raise BenchError(f"{section}: {mine} and {other} have no round together")
        ours, theirs = (interval(self.turns.values(section, name, figure)).median for name in (mine, other))
        row = Row(section, what, ours, theirs, interval(ratios), relation, wanted, doubt or self.doubt(section, figure, mine, other))
        self.rows.append(row)
        return row

    def state(self, section: str, what: str, values: Sequence[float], relation: str = "", wanted: float = 0) -> Row:
        """Adds a figure that is compared with nothing."""
        found = interval(values)
        row = Row(section, what, found.median, None, found, relation, wanted)
        self.rows.append(row)
        return row

    def best(self, section: str, mine: str, peers: Sequence[str]) -> None:
        """States the ratios to the best of the tuned peers: the one with the most requests a second."""
        rates = {peer: interval(found).median for peer in peers if (found := self.turns.values(section, peer, "per_second"))}
        if not rates:
            return
        best = max(rates, key=lambda peer: rates[peer])
        rate, cost = (interval(self.turns.ratios(section, mine, best, figure)) for figure in ("per_second", "cpu_us"))
        self.statements.append(
            f"{section}: {number(rate.median)} [{span(rate)}] times the requests/s of the best tuned peer, {best}, "
            f"at {number(cost.median)} [{span(cost)}] times its CPU per request"
        )

    def doubt(self, section: str, figure: str, mine: str, other: str) -> str:
        """Why a figure of these two cannot decide; empty if it can."""
        def median(name: str, wanted: str) -> float | None:
            values = [turn.figures[wanted] for turn in self.turns.all if (turn.section, turn.contestant) == (section, name) and wanted in turn.figures]
            return interval(values).median if values else None

        for name in (mine, other):
            if figure == "p99_us" and (late := median(name, "lag_p99_us")) is not None and late > LATE * (median(name, figure) or 0):
                return f"the lag of the load generator was too large: p99 {late:,.0f} us, {name}"
            if figure == "per_second" and (busy := median(name, "server_busy")) is not None and busy < BUSY:
                return f"the client was the limit: {name}'s processors were {busy:.0%} busy"
        return ""


def report(result: Result, file: str | None) -> int:
    """Prints the result, and writes it with all measurements. Returns the exit code: 0 if every target is met, else 2."""
    print("\n".join(table(result)))
    if file:
        document = {
            **result.about,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in result.rows],
            "statements": result.statements, "left_out": result.left_out,
            "turns": [asdict(turn) for turn in result.turns.all],
        }
        Path(file).write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row.verdict == "met" for row in result.rows if row.relation) else 2


def table(result: Result) -> list[str]:
    """The lines of the table."""
    width = max((len(row.what) for row in result.rows), default=0) + 2
    lines = [f"{'':<{width}}  {'service':>10}  {'other':>10}  {'ratio':>7}  {'95 % interval':>17}  {'n':>3}  wanted   verdict"]
    section = None
    for row in result.rows:
        if row.section != section:
            section = row.section
            lines += ["", section]
        relation = f"{row.relation} {row.wanted:g}" if row.relation else ""
        ratio = number(row.found.median) if row.other is not None else ""
        line = (
            f"  {row.what:<{width - 2}}  {number(row.mine):>10}  {number(row.other):>10}  {ratio:>7}  "
            f"{span(row.found):>17}  {row.found.count:>3}  {relation:<7}  {row.verdict}"
        )
        lines.append(line.rstrip())
        if row.doubt:
            lines.append(f"    {row.doubt}")
    judged = [row.verdict for row in result.rows if row.relation]
    counts = [f"{judged.count(said)} {said}" for said in ("met", "not met", "undecided")]
    lines += ["", *result.statements, *(f"left out: {what}" for what in result.left_out)]
    return [*lines, f"{len(judged)} targets: {', '.join(counts)}"]


def span(found: Interval) -> str:
    """The interval, or `none` if there are too few values."""
    return f"{number(found.low)} .. {number(found.high)}" if found.low is not None else "none"


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"
