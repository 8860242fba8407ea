"""What was run by hand in a dom0: each command, what it printed, and how it exited."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).parents[1] / "recorded" / "dom0-2026-11.txt"


@dataclass(frozen=True, slots=True)
class Ran:
    argv: tuple[str, ...]
    printed: str
    status: int


def transcript() -> Iterator[Ran]:
    """Yield the commands of the transcript in order."""
    argv: tuple[str, ...] = ()
    printed: list[str] = []
    for line in RECORDED.read_text().splitlines():
        if line.startswith("$ "):
            argv, printed = tuple(shlex.split(line[2:])), []
        elif line.startswith("rc=") and argv:
            yield Ran(argv, "\n".join(printed), int(line[3:]))
            argv = ()
        elif argv:
            printed.append(line)
