"""Measurements in rounds. Each round measures every server once, in random order, so that a disturbance of the machine
affects all alike; the figures of one round are the pairs whose ratios are compared."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .machine import Processors, ticks

Figures = dict[str, float]


@dataclass(frozen=True)
class Turn:
    """One measurement."""

    section: str
    round: int
    contestant: str
    started_s: float
    """Seconds after the start of the run."""
    figures: Figures


class Turns:
    """All measurements of a run. The order within a round comes from `seed`."""

    def __init__(self, seed: int, processors: Processors, say: Callable[[str], None]) -> None:
        self.seed, self.processors = seed, processors
        self._chance, self._say = random.Random(seed), say
        self._begun = time.monotonic()
        self.all: list[Turn] = []

    def play(self, section: str, contestants: Mapping[str, Callable[[], Figures]], number: int) -> None:
        """One round."""
        order = list(contestants)
        self._chance.shuffle(order)
        for name in order:
            self._say(f"{section}, round {number + 1}: {name}")
            self.take(section, number, name, contestants[name])

    def take(self, section: str, number: int, contestant: str, measure: Callable[[], Figures]) -> None:
        """Makes one measurement. Adds the CPU use of the processors, and their steal time."""
        started = time.monotonic() - self._begun
        sides = {"server": self.processors.server, "client": self.processors.client}
        before = {side: ticks(processors) for side, processors in sides.items()}
        figures = dict(measure())
        for side, processors in sides.items():
            busy, stolen = ticks(processors).since(before[side])
            figures |= {f"{side}_busy": busy, f"{side}_stolen": stolen}
        self.all.append(Turn(section, number, contestant, started, figures))

    def values(self, section: str, contestant: str, figure: str) -> list[float]:
        """A figure of all rounds."""
        return [turn.figures[figure] for turn in self.all if (turn.section, turn.contestant) == (section, contestant)]

    def contestants(self, section: str) -> list[str]:
        """The servers that were measured, sorted."""
        return sorted({turn.contestant for turn in self.all if turn.section == section})

    def ratios(self, section: str, contestant: str, other: str, figure: str) -> list[float]:
        """The ratio of each pair: the figures of the two in the same round."""
        by_round: dict[int, dict[str, float]] = {}
        for turn in self.all:
            if turn.section == section and turn.contestant in (contestant, other):
                by_round.setdefault(turn.round, {})[turn.contestant] = turn.figures[figure]
        return [pair[contestant] / pair[other] for _, pair in sorted(by_round.items()) if len(pair) == 2]
