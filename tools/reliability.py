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
        text = between(text, FAULTS, lambda _: "".join(of_faults(faults)))
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


def of_faults(said: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table of faults."""
    rows: dict[tuple[str, str], list[int]] = {}
    for each in said:
        rows.setdefault((each["fault"], each["outcome"]), []).append(each["instants"])
    total = sum(map(sum, rows.values()))
    day, commit = now().split()
    yield f"\nRun on {day} at commit {commit}: {len(rows)} kinds of fault, {total} times.\n\n"
    yield "| fault | times | what became of it |\n|---|---|---|\n"
    for (fault, outcome), instants in sorted(rows.items()):
        yield f"| {fault} | {sum(instants)} | {outcome} |\n"
    yield "\n"


def of_cells(said: list[dict[str, Any]], before: str) -> Iterator[str]:
    """Yield the lines of the table of cells: what ran before and not now stays, with its own date."""
    rows = {words[0]: dict(zip(RELEASES, words[1:], strict=True)) for words in map(columns, before.splitlines()[3:-1])}
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


def columns(row: str) -> list[str]:
    return [word.strip() for word in row.strip("|").split("|")]


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
