"""The statistics, against published values and by simulation."""

from __future__ import annotations

import random
import unittest

from bench.intervals import Interval, covered, interval, verdict


class Intervals(unittest.TestCase):
    def test_the_ranks_are_those_of_the_tables(self) -> None:
        """Ranks of the 95 % interval of a median, as tables of the sign test have them, and their exact coverage."""
        for count, rank, coverage in ((6, 1, 0.96875), (8, 1, 0.9921875), (9, 2, 0.9609375), (12, 3, 0.9614258), (20, 6, 0.9586105)):
            found = interval([float(value) for value in range(1, count + 1)])
            self.assertEqual((found.low, found.high), (rank, count + 1 - rank), count)
            self.assertAlmostEqual(found.coverage or 0, coverage, places=6)
            self.assertLess(covered(count, rank + 1), 0.95)

    def test_few_values_have_no_interval(self) -> None:
        self.assertEqual(interval([3, 1, 2, 5, 4]), Interval(3, None, None, None, 5))
        self.assertEqual(interval([7]), Interval(7, None, None, None, 1))
        with self.assertRaises(ValueError):
            interval([])

    def test_the_order_of_the_values_does_not_matter_and_outliers_move_nothing(self) -> None:
        found = interval([9, 1, 5, 3, 1_000_000, 2, 4, 8, 6])
        self.assertEqual((found.median, found.low, found.high), (5, 2, 9))

    def test_it_covers_the_median_of_a_skewed_distribution_as_often_as_it_says(self) -> None:
        chance, runs, median = random.Random(1), 4_000, 1.0
        inside = 0
        for _ in range(runs):
            found = interval([chance.lognormvariate(0, 2) for _ in range(9)])
            inside += (found.low or 0) <= median <= (found.high or 0)
        self.assertAlmostEqual(inside / runs, covered(9, 2), delta=0.012)


class Verdicts(unittest.TestCase):
    FOUND = Interval(1.1, 1.0, 1.2, 0.96, 9)

    def test_only_the_whole_interval_decides(self) -> None:
        for relation, wanted, said in (
            ("<=", 1.2, "met"), ("<=", 1.19, "undecided"), ("<=", 1.0, "undecided"), ("<=", 0.99, "not met"),
            (">=", 1.0, "met"), (">=", 1.01, "undecided"), (">=", 1.2, "undecided"), (">=", 1.21, "not met"),
        ):
            self.assertEqual(verdict(self.FOUND, relation, wanted), said, f"{relation} {wanted}")

    def test_nothing_is_decided_without_an_interval(self) -> None:
        self.assertEqual(verdict(interval([0.5, 0.5, 0.5]), "<=", 1), "undecided")
        with self.assertRaises(ValueError):
            verdict(self.FOUND, "<", 1)


if __name__ == "__main__":
    unittest.main()
