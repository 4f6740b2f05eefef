"""The tables of several results."""

from __future__ import annotations

import unittest
from typing import Any

from tables import tables


def run(seed: int, ratio: float, *, peer: bool = True) -> dict[str, Any]:
    def row(what: str, other: float | None, relation: str, verdict: str) -> dict[str, Any]:
        found = {"median": ratio, "low": ratio - 0.01, "high": ratio + 0.01, "coverage": 0.96, "count": 9}
        return {
            "section": "hit" if other else "memory", "what": what, "mine": 90_000.0, "other": other, "found": found,
            "relation": relation, "wanted": 0.85, "doubt": "", "verdict": verdict,
        }

    rows = [row("requests/s, to the floor", 100_000, ">=", "met"), *([row("requests/s, to a peer", 5_000, "", "")] if peer else [])]
    return {
        "commit": "abc", "seed": seed, "rows": [*rows, row("idle, MiB", None, "", "")], "statements": [f"best {ratio}"],
        "left_out": [] if peer else ["a peer: how to get it"],
    }


class Tables(unittest.TestCase):
    def test_a_column_for_each_run_and_a_gap_where_a_peer_was_left_out(self) -> None:
        self.assertEqual(tables([run(1, 0.9), run(2, 0.92, peer=False)]), [
            "run 1: commit abc, seed 1", "run 2: commit abc, seed 2", "",
            "**hit**", "", "| | wanted | run 1 | run 2 |", "|---|---|---|---|",
            "| requests/s, to the floor | >= 0.85 | 0.90 [0.89, 0.91] (90,000 / 100,000) met | 0.92 [0.91, 0.93] (90,000 / 100,000) met |",
            "| requests/s, to a peer |  | 0.90 [0.89, 0.91] (90,000 / 5,000) |  |", "",
            "**memory**", "", "| | wanted | run 1 | run 2 |", "|---|---|---|---|",
            "| idle, MiB |  | 0.90 [0.89, 0.91] | 0.92 [0.91, 0.93] |", "",
            "- best 0.9", "- best 0.92", "- a peer: how to get it",
        ])


if __name__ == "__main__":
    unittest.main()
