"""`loadtest/peers/tables.py RESULT.json...`: the tables of one or more results of `make bench-peers --json`, in Markdown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "localstack"))

from bench.rows import number  # noqa: E402


def tables(results: list[dict[str, Any]]) -> list[str]:
    """One table for each section: a line for each figure, a column for each run."""
    lines = [f"run {index}: commit {one['commit']}, seed {one['seed']}" for index, one in enumerate(results, 1)]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in (row for one in results for row in one["rows"]):
        rows.setdefault((row["section"], row["what"]), row)
    runs = "".join(f" run {index} |" for index in range(1, len(results) + 1))
    for section in dict.fromkeys(section for section, _ in rows):
        lines += ["", f"**{section}**", "", f"| | wanted |{runs}", f"|---|---|{'---|' * len(results)}"]
        for (at, what), row in rows.items():
            if at == section:
                wanted = f"{row['relation']} {row['wanted']:g}" if row["relation"] else ""
                lines.append(f"| {what} | {wanted} | {' | '.join(cell(one, section, what) for one in results)} |")
    return [*lines, "", *dict.fromkeys(f"- {line}" for one in results for line in (*one["statements"], *one["left_out"]))]


def cell(result: dict[str, Any], section: str, what: str) -> str:
    """The ratio, or the figure, with its interval and its verdict; for a ratio also the two medians."""
    row = next((row for row in result["rows"] if (row["section"], row["what"]) == (section, what)), None)
    if row is None:
        return ""
    found = row["found"]
    parts = [number(found["median"])]
    if found["low"] is not None:
        parts.append(f"[{number(found['low'])}, {number(found['high'])}]")
    if row["other"] is not None:
        parts.append(f"({number(row['mine'])} / {number(row['other'])})")
    return " ".join([*parts, *([row["verdict"]] if row["verdict"] else [])])


if __name__ == "__main__":
    print("\n".join(tables([json.loads(Path(file).read_text()) for file in sys.argv[1:]])))
