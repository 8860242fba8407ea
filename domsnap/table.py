"""The preview's table of disks: what each is, what is done with it and why, in columns that fit."""

from __future__ import annotations

from collections.abc import Iterator

from domsnap.terminal import Ink, cells, middle, safe, wrap
from domsnap.told import HELD, nearby
from domsnap.units import size
from planner.plan import DiskRow, Plan, Verb

# Columns that a path needs to say anything; with less it goes to the line below.
_LEAST = 20
_HEADS = ("Disk", "backend", "format", "size", "method")
_RIGHT = _HEADS.index("size")


def disk_table(plan: Plan, width: int, ink: Ink) -> Iterator[str]:
    """Yield the table: a line of columns for each disk, then why that method, and where its content is kept."""
    several = len(plan.domains) > 1
    rows = [_columns(row, several, 24 if width >= 80 else 12) for row in plan.disks]
    kept = [0, 3, 4] if width < 60 else range(len(_HEADS))
    widths = {column: max(cells(each[column]) for each in (_HEADS, *rows)) for column in kept}
    room = width - sum(widths.values()) - 2 * len(widths)
    beside = room >= _LEAST
    yield ink("bold", f"{_line(_HEADS, widths)}{'  path' if beside else ''}".rstrip())
    for row, columns in zip(plan.disks, rows, strict=True):
        path = safe(row.path)
        yield f"{_line(columns, widths)}  {middle(path, room) if beside else ''}"
        if not beside and path:
            yield f"  {middle(path, width - 2)}"
        for line in wrap(_said(row, plan.verb), width - 2):
            if line:
                yield "  " + ink("dim", line)


def _columns(row: DiskRow, several: bool, longest: int) -> tuple[str, ...]:
    name = f"{row.domain}:{row.vdev}" if several else row.vdev
    rest = (row.backend, row.format, size(row.capacity), row.method)
    return (middle(safe(name), longest), *(middle(safe(text), 12) for text in rest))


def _line(columns: tuple[str, ...], widths: dict[int, int]) -> str:
    return "  ".join(_padded(columns[column], width, column == _RIGHT) for column, width in widths.items())


def _padded(text: str, width: int, right: bool) -> str:
    pad = " " * (width - cells(text))
    return pad + text if right else text + pad


def _said(row: DiskRow, verb: Verb) -> str:
    """Return why, and where the content of the snapshot is or will be, if that is not the disk itself."""
    path, holder = safe(row.path), safe(row.holder)
    name, why = nearby(holder, path), nearby(safe(row.why), path)
    how = HELD[verb] if name == holder else HELD[verb].replace(" in", " as")
    there = "" if holder in ("", path) else f"{how} {name}"
    return "; ".join(part for part in ((there, why) if verb == "revert" else (why, there)) if part)
