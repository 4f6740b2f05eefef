"""Statistics without a distribution: the median of paired ratios, its interval by the sign test, and a verdict from the interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
"""The least probability with which an interval covers the true median."""


@dataclass(frozen=True)
class Interval:
    """A sample's median and the two of its values between which the true median lies, with the exact probability of that.

    `low`, `high` and `coverage` are None where the sample is too small for `CONFIDENCE` (fewer than six values).
    """

    median: float
    low: float | None
    high: float | None
    coverage: float | None
    count: int


def interval(sample: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The interval that inverts the two-sided sign test: from the k-th smallest to the k-th largest value, for the largest k that
    still has the confidence. It assumes independent values with the same median, and no shape of their distribution."""
    if not sample:
        raise ValueError("no values")
    ordered = sorted(sample)
    count = len(ordered)
    median = statistics.median(ordered)
    rank, coverage = 0, 0.0
    while rank < count // 2 and (wider := covered(count, rank + 1)) >= confidence:
        rank, coverage = rank + 1, wider
    if rank == 0:
        return Interval(median, None, None, None, count)
    return Interval(median, ordered[rank - 1], ordered[count - rank], coverage, count)


def covered(count: int, rank: int) -> float:
    """The probability that the median lies between the `rank`-th smallest and the `rank`-th largest of so many values."""
    outside = sum(math.comb(count, below) for below in range(rank))
    return 1 - 2 * outside / 2**count


def verdict(found: Interval, relation: str, wanted: float) -> str:
    """`met` if the whole interval is on the wanted side, `not met` if none of it is, else `undecided`."""
    if relation not in ("<=", ">="):
        raise ValueError(f"no relation: {relation}")
    if found.low is None or found.high is None:
        return "undecided"
    worst, best = (found.high, found.low) if relation == "<=" else (found.low, found.high)
    is_good = (lambda value: value <= wanted) if relation == "<=" else (lambda value: value >= wanted)
    if is_good(worst):
        return "met"
    return "undecided" if is_good(best) else "not met"
