"""Writes the table of docs/reliability.md from what the tests survived: `./dev test --all --faults=FILE` first."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- made by tools/reliability.py -->\n", "<!-- to here -->\n"


def main(file: str) -> int:
    """Rewrite the table; return 1 if some test of a fault did not pass."""
    rows: dict[tuple[str, str], list[int]] = {}
    failed = False
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        rows.setdefault((said["fault"], said["outcome"]), []).append(said["instants"])
        failed |= not said["passed"]
    path = ROOT / "docs/reliability.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    path.write_text(before + BEGIN + "".join(table(rows)) + END + rest.partition(END)[2], encoding="utf-8")
    return int(failed)


def table(rows: dict[tuple[str, str], list[int]]) -> Iterator[str]:
    """Yield the lines of the table, with the day and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    total = sum(map(sum, rows.values()))
    yield f"\nRun on {datetime.now(UTC):%Y-%m-%d} at commit {commit}: {len(rows)} kinds of fault, {total} times.\n\n"
    yield "| fault | times | what became of it |\n|---|---|---|\n"
    for (fault, outcome), instants in sorted(rows.items()):
        yield f"| {fault} | {sum(instants)} | {outcome} |\n"
    yield "\n"


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
