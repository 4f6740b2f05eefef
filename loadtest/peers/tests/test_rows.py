"""The table and the result: pairs, reasons for no verdict, verdicts, the exit code, and what is written."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

from bench.intervals import interval
from bench.machine import Processors
from bench.rows import BenchError, Result, Row, report, table
from bench.turns import Turn, Turns


def result() -> Result:
    return Result(Turns(1, Processors((0,), (1,)), lambda _: None), {"seed": 1})


def with_turns(section: str, figures: dict[str, list[dict[str, float]]]) -> Result:
    """Contestants with the figures of each of their rounds."""
    found = result()
    for name, rounds in figures.items():
        found.turns.all += [Turn(section, number, name, 0.0, values) for number, values in enumerate(rounds)]
    return found


def rates(*values: float, busy: float = 1.0) -> list[dict[str, float]]:
    return [{"per_second": value, "server_busy": busy} for value in values]


class Comparing(unittest.TestCase):
    def test_ratios_are_of_pairs_and_not_of_medians(self) -> None:
        """The machine is half as fast in every other round: the ratios of pairs do not change."""
        found = with_turns("s", {"mine": rates(90, 45, 90, 45, 90, 45), "other": rates(100, 50, 100, 50, 100, 50)})
        row = found.compare("s", "per_second", "mine", "other", "requests/s", ">=", 0.85)
        self.assertEqual((row.found.median, row.found.low, row.found.high, row.found.count), (0.9, 0.9, 0.9, 6))
        self.assertEqual((row.mine, row.other, row.verdict), (67.5, 75, "met"))

    def test_a_round_without_one_of_them_is_no_pair(self) -> None:
        found = with_turns("s", {"mine": rates(1, 1, 1), "other": rates(2, 2)})
        self.assertEqual(found.compare("s", "per_second", "mine", "other", "r").found.count, 2)
        with self.assertRaises(BenchError):
            found.compare("s", "per_second", "mine", "nobody", "r")

    def test_few_rounds_decide_nothing(self) -> None:
        found = with_turns("s", {"mine": rates(*[9] * 5), "other": rates(*[1] * 5)})
        self.assertEqual(found.compare("s", "per_second", "mine", "other", "r", ">=", 1).verdict, "undecided")

    def test_a_client_that_was_the_limit_decides_nothing(self) -> None:
        found = with_turns("s", {"mine": rates(*[9] * 6), "other": rates(*[9] * 6, busy=0.6)})
        row = found.compare("s", "per_second", "mine", "other", "r", ">=", 0.85)
        self.assertEqual(row.verdict, "undecided")
        self.assertIn("other's processors were 60% busy", row.doubt)

    def test_a_late_load_generator_decides_nothing(self) -> None:
        def tails(p99: float, lag: float) -> list[dict[str, float]]:
            return [{"p99_us": p99, "lag_p99_us": lag}] * 6

        for lag, said in ((19.0, "met"), (21.0, "undecided")):
            found = with_turns("s", {"mine": tails(100, lag), "other": tails(100, 1)})
            self.assertEqual(found.compare("s", "p99_us", "mine", "other", "p99", "<=", 1.25).verdict, said)

    def test_the_best_tuned_peer_is_the_one_with_the_highest_rate(self) -> None:
        def turns(rate: float, cost: float) -> list[dict[str, float]]:
            return [{"per_second": rate, "cpu_us": cost}] * 6

        found = with_turns("s", {"mine": turns(100, 10), "slow": turns(5, 200), "fast": turns(20, 50)})
        found.best("s", "mine", ["slow", "fast", "left out"])
        self.assertIn("5.00 [5.00 .. 5.00] times the requests/s of the best tuned peer, fast, at 0.20 [0.20 .. 0.20]", found.statements[0])
        found.best("s", "mine", ["left out"])
        self.assertEqual(len(found.statements), 1)


class Reporting(unittest.TestCase):
    def setUp(self) -> None:
        self.result = with_turns("GetConfig", {"mine": rates(*[90_000] * 6), "other": rates(*[100_000] * 6)})
        self.result.compare("GetConfig", "per_second", "mine", "other", "requests/s, to other", ">=", 0.85)
        self.result.state("memory", "idle, MiB", [20.0, 21, 20, 20, 20, 20], "<=", 20.5)
        self.result.state("memory", "measured once", [7.0])
        self.result.left_out.append("a peer: how to get it")
        self.result.statements.append("a statement")

    def test_the_table(self) -> None:
        lines = table(self.result)
        self.assertRegex("\n".join(lines), r"requests/s, to other +90,000 +100,000 +0\.90 +0\.90 \.\. 0\.90 +6  >= 0\.85 +met\n")
        self.assertRegex("\n".join(lines), r"idle, MiB +20\.00 +20\.00 \.\. 21\.00 +6  <= 20\.5 +undecided\n")
        self.assertRegex("\n".join(lines), r"measured once +7\.00 +none +1\n")
        self.assertEqual([lines.count(heading) for heading in ("GetConfig", "memory")], [1, 1])
        self.assertEqual(lines[-3:], ["a statement", "left out: a peer: how to get it", "2 targets: 1 met, 0 not met, 1 undecided"])
        self.assertFalse([line for line in lines if line != line.rstrip()])

    def test_a_doubt_is_printed_under_its_row(self) -> None:
        self.result.rows = [Row("s", "p99", 1.0, 1.0, interval([1.0] * 6), "<=", 2, "because")]
        self.assertEqual([line.strip() for line in table(self.result)[4:5]], ["because"])

    def test_all_turns_are_kept_and_the_exit_code_needs_every_target(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            file = Path(folder) / "result.json"
            self.assertEqual(report(self.result, str(file)), 2)
            written = json.loads(file.read_text())
            self.result.rows = self.result.rows[:1]
            self.assertEqual(report(self.result, None), 0)
        self.assertEqual(len(written["turns"]), 12)
        self.assertEqual(written["turns"][0]["figures"], {"per_second": 90_000, "server_busy": 1.0})
        self.assertEqual([row["verdict"] for row in written["rows"]], ["met", "undecided", ""])
        self.assertEqual((written["seed"], written["left_out"]), (1, ["a peer: how to get it"]))


if __name__ == "__main__":
    unittest.main()
