"""The result table: one line for each figure, with its target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


class BenchError(Exception):
    """An error that ends the run with one message."""


@dataclass
class Row:
    """One line. Without a relation it has no target."""

    what: str
    service: str
    other: str
    value: float
    relation: str = ""
    wanted: float = 0

    @property
    def verdict(self) -> str:
        if not self.relation:
            return ""
        is_met = self.value >= self.wanted if self.relation == ">=" else self.value <= self.wanted
        return "met" if is_met else "NOT MET"


def ratio(what: str, mine: float, other: float, relation: str = "", wanted: float = 0) -> Row:
    precision = 0 if mine >= 1_000 else 2
    return Row(what, f"{mine:,.{precision}f}", f"{other:,.{precision}f}", mine / other, relation, wanted)


def report(rows: list[Row], file: str | None) -> int:
    """Prints the rows. Returns the exit code."""
    width = max(len(row.what) for row in rows)
    print(f"\n{'':<{width}}  {'service':>10}  {'other':>10}  {'ratio':>8}  wanted")
    for row in rows:
        wanted = f"{row.relation} {row.wanted:<6g}" if row.relation else " " * 9
        print(f"{row.what:<{width}}  {row.service:>10}  {row.other:>10}  {row.value:>8.2f}  {wanted} {row.verdict}".rstrip())
    judged = [row for row in rows if row.verdict]
    missed = [row for row in judged if row.verdict != "met"]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} met")
    if file:
        Path(file).write_text(json.dumps([vars(row) | {"verdict": row.verdict} for row in rows], indent=2) + "\n")
    return 1 if missed else 0
