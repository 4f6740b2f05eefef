"""The order of measurements, and the assignment of processors."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest

from bench import machine
from bench.machine import Processors, Ticks
from bench.turns import Turns

STAT = """cpu  30 0 30 240 0 0 0 0 0 0
cpu0 10 1 10 50 5 2 2 20 0 0
cpu1 1 0 1 98 0 0 0 0 0 0
intr 1
"""


class Order(unittest.TestCase):
    def played(self, seed: int) -> list[str]:
        turns = Turns(seed, Processors((0,), (0,)), lambda _: None)
        for number in range(40):
            turns.play("s", {name: (lambda: {"per_second": 1.0}) for name in ("a", "b", "c")}, number)
        self.assertEqual([turn.round for turn in turns.all], [number for number in range(40) for _ in range(3)])
        return [turn.contestant for turn in turns.all]

    def test_each_round_has_all_in_an_order_that_the_seed_decides(self) -> None:
        order = self.played(7)
        rounds = [tuple(order[at:at + 3]) for at in range(0, len(order), 3)]
        self.assertTrue(all(sorted(one) == ["a", "b", "c"] for one in rounds))
        self.assertEqual(len(set(rounds)), 6, "all orders occur")
        self.assertEqual(order, self.played(7))
        self.assertNotEqual(order, self.played(8))

    def test_a_turn_says_how_busy_the_processors_were(self) -> None:
        turns = Turns(1, Processors((0,), (0,)), lambda _: None)
        turns.take("s", 0, "a", lambda: {"per_second": 1.0})
        self.assertEqual(
            sorted(turns.all[0].figures), ["client_busy", "client_stolen", "per_second", "server_busy", "server_stolen"],
        )
        self.assertEqual(turns.values("s", "a", "per_second"), [1.0])
        self.assertEqual(turns.contestants("s"), ["a"])


class Machine(unittest.TestCase):
    def test_half_of_the_processors_is_the_servers(self) -> None:
        self.assertEqual(Processors.split([3, 1, 0, 2]), Processors((0, 1), (2, 3)))
        self.assertEqual(Processors.split([0, 1, 2]), Processors((0,), (1, 2)))
        alone = Processors.split([5])
        self.assertEqual((alone, alone.are_apart), (Processors((5,), (5,)), False))
        self.assertTrue(Processors.split([0, 1]).are_apart)

    def test_stolen_time_is_neither_busy_nor_idle(self) -> None:
        found = machine.ticks([0], STAT)
        self.assertEqual(found, Ticks(busy=25, total=100, stolen=20))
        self.assertEqual(found.since(Ticks(0, 0, 0)), (0.25, 0.2))
        self.assertEqual(machine.ticks([0, 1], STAT).total, 200)

    def test_the_time_of_children_counts(self) -> None:
        """A process that does nothing, with one that spins: as NestJS in cluster mode."""
        spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint('spun', flush=True); time.sleep(60)"
        parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
        process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            self.assertEqual(process.stdout.readline(), "spun\n")
            family = machine.tree(process.pid)
            self.assertEqual(len(family), 2)
            self.assertGreaterEqual(machine.cpu_seconds(process.pid), 0.3)
            self.assertGreater(machine.rss_mib(process.pid), 1)
        finally:
            for pid in reversed(family):
                os.kill(pid, 9)
            process.wait()
            if process.stdout:
                process.stdout.close()
        self.assertEqual(machine.stat_fields(process.pid), [])


if __name__ == "__main__":
    unittest.main()
