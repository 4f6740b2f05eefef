"""Parsing of the load generators' output, and what ends the benchmark."""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "localstack"))

from bench.clients import Answers, answers_of, checked, redis_rate, tail_of, text  # noqa: E402
from bench.rows import BenchError  # noqa: E402

H2LOAD = """
finished in 1.95s, 25645.08 req/s, 7.56MB/s
requests: 50000 total, 50000 started, 50000 done, 50000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 50000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 14.73MB (15450183) total, 146.54KB (150058) headers (space savings 95.77%), 13.26MB (13900000) data
"""


def printed(**changed: object) -> str:
    times = {"count": 100, "p50_us": 200, "p99_us": 900}
    measured = {"codes": {"OK": 100}, "not_sustained_because": None, "times": times, "lag": {"p50_us": 5, "p99_us": 60}, "rewritten": 0}
    return json.dumps(measured | changed)


class H2load(unittest.TestCase):
    def test_what_it_counted_and_its_own_rate(self) -> None:
        self.assertEqual(answers_of(H2LOAD), Answers(50_000, 50_000, 13_900_000, 25_645.08))
        with self.assertRaises(BenchError):
            answers_of("usage: h2load")

    def test_a_wrong_answer_ends_the_benchmark(self) -> None:
        right = Answers(100, 100, 27_800, 1)
        self.assertEqual(checked(right, 278), right)
        self.assertEqual(checked(Answers(100, 100, 27_900, 1), 278, slack=8).data_bytes, 27_900)
        for wrong in (
            Answers(100, 100, 27_800 - 278, 1),  # one gRPC error, which has HTTP status 200 and no body
            Answers(100, 99, 27_800, 1), Answers(100, 100, 27_801, 1),
        ):
            with self.assertRaises(BenchError):
                checked(wrong, 278)


class Hits(unittest.TestCase):
    def test_the_times_and_the_lag(self) -> None:
        found = tail_of(printed(), 100)
        self.assertEqual((found.p50_us, found.p99_us, found.lag_p50_us, found.lag_p99_us), (200, 900, 5, 60))

    def test_an_answer_that_is_not_ok_ends_the_benchmark(self) -> None:
        for codes in ({"OK": 99, "503": 1}, {"OK": 99, "no answer": 1}, {"503": 100}, {"OK": 90}, {}):
            with self.assertRaises(BenchError, msg=str(codes)):
                tail_of(printed(codes=codes), 100)

    def test_the_flood_has_other_expectations(self) -> None:
        codes = {"OK": 50, "UNAUTHENTICATED": 50}
        self.assertEqual(tail_of(printed(codes=codes), 100, ("OK", "UNAUTHENTICATED")).codes, codes)
        for codes in ({"OK": 100}, {"OK": 50, "UNAUTHENTICATED": 49, "UNAVAILABLE": 1}):
            with self.assertRaises(BenchError):
                tail_of(printed(codes=codes), 100, ("OK", "UNAUTHENTICATED"))


class Redis(unittest.TestCase):
    def test_its_rate(self) -> None:
        self.assertEqual(redis_rate('"test","rps","avg_latency_ms"\n"GET k","125786.16","0.271"\n'), 125_786.16)
        for nothing in ("", '"test","rps"\n', "ERR\n"):
            with self.assertRaises(BenchError):
                redis_rate(nothing)


class Protobuf(unittest.TestCase):
    def test_a_string_field(self) -> None:
        self.assertEqual(text(1, "k" * 200), b"\x0a\xc8\x01" + b"k" * 200)


if __name__ == "__main__":
    unittest.main()
