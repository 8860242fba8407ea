"""Writes the tables of docs/reliability.md from what the tests noted: `./dev test --all --faults=FILE` first, for the
one on a real host `./dev xen --all --faults=FILE`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAULTS, CELLS, END = "<!-- made by tools/reliability.py -->\n", "<!-- cells, made by it too -->\n", "<!-- to here -->\n"
RELEASES = {"bookworm": "Xen 4.17, QEMU 7.2", "trixie": "Xen 4.20, QEMU 10.0"}


def main(file: str) -> int:
    """Rewrite the table of what was run; return 1 if something did not pass."""
    said = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    path = ROOT / "docs/reliability.md"
    text = path.read_text(encoding="utf-8")
    if faults := [each for each in said if "fault" in each]:
        text = between(text, FAULTS, lambda before: "".join(of_faults(faults, before)))
    if cells := [each for each in said if "cell" in each]:
        text = between(text, CELLS, lambda before: "".join(of_cells(cells, before)))
    path.write_text(text, encoding="utf-8")
    return int(not all(each["passed"] for each in said))


def between(text: str, begin: str, make: Callable[[str], str]) -> str:
    """Return a text with what lies between its marks made anew from what lay there."""
    before, _, rest = text.partition(begin)
    old, _, after = rest.partition(END)
    return before + begin + make(old) + END + after


def now() -> str:
    """Return the day and the commit."""
    argv = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return f"{datetime.now(UTC):%Y-%m-%d} {commit}"


def of_faults(said: list[dict[str, Any]], before: str) -> Iterator[str]:
    """Yield the lines of the table of faults: what ran before and not now stays, with its own date."""
    rows = {(fault, outcome): (int(times), ran) for fault, times, outcome, ran in entries(before)}
    now_ran: dict[tuple[str, str], int] = {}
    for each in said:
        row = each["fault"], each["outcome"]
        now_ran[row] = now_ran.get(row, 0) + each["instants"]
    rows |= {row: (times, now()) for row, times in now_ran.items()}
    total = sum(times for times, _ in rows.values())
    yield f"\n{len(rows)} kinds of fault, {total} times.\n\n"
    yield "| fault | times | what became of it | run |\n|---|---|---|---|\n"
    for (fault, outcome), (times, ran) in sorted(rows.items()):
        yield f"| {fault} | {times} | {outcome} | {ran} |\n"
    yield "\n"


def of_cells(said: list[dict[str, Any]], before: str) -> Iterator[str]:
    """Yield the lines of the table of cells: what ran before and not now stays, with its own date."""
    rows = {words[0]: dict(zip(RELEASES, words[1:], strict=True)) for words in entries(before)}
    for each in said:
        stopped = ", ".join(
            f"{verb} {'/'.join(f'{second:.1f}' for second in seconds)} s" for verb, seconds in each["stopped"].items()
        )
        told = now() + (f": {stopped}" if stopped else "") if each["passed"] else f"failed {now()}"
        rows.setdefault(each["cell"], dict.fromkeys(RELEASES, "not yet"))[each["release"]] = told
    yield f"\n| cell | {' | '.join(RELEASES.values())} |\n|---|---|---|\n"
    for cell, ran in sorted(rows.items()):
        yield f"| {cell} | {' | '.join(ran.values())} |\n"
    yield "\n"


def entries(table: str) -> Iterator[list[str]]:
    """Yield the columns of each line of a table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [word.strip() for word in line.strip("|").split("|")]


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
