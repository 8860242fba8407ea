"""What `list` and `show` print: the snapshots of a store as trees, and one of them in full."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from domsnap.door import colors, emit, emit_text
from domsnap.terminal import Ink, cells, middle, safe, wrap
from domsnap.units import size
from schema.diagnostic import Diagnostic, Refused
from schema.validate import did_you_mean

if TYPE_CHECKING:
    from executor.store import Problem, Shelf, Twig
    from planner.facts import Record

_LINES = {"box": ("│ ", "├─"), "plain": ("| ", "|-")}


def overview(domain: str, store: str, *, as_json: bool) -> int:
    """Print the snapshots of one domain, or of all, as trees; those that nothing can be read of too. Raises Refused."""
    shelves = shelves_of(domain, store)
    if as_json:
        emit_json({"store": store, "domains": [_shelf_json(shelf) for shelf in shelves]})
        return 0
    if not shelves:
        emit_text(f"no snapshots in {safe(store)}\n")
    ink, width = Ink(colors(sys.stdout)), shutil.get_terminal_size().columns
    for number, shelf in enumerate(shelves):
        emit_text(("\n" if number else "") + "\n".join(_tree(shelf, ink, width)) + "\n")
    return 0


def show(domain: str, snapshot: str, store: str, *, as_json: bool) -> int:
    """Print all that the store says of a snapshot. Raises Refused if it holds none of that name that can be read."""
    (shelf,) = shelves_of(domain, store)
    record = record_of(shelf, snapshot)
    if as_json:
        emit_json({"current": shelf.current == snapshot, "snapshot": _record_json(record)})
    else:
        emit_text("\n".join(_page(shelf, record, shutil.get_terminal_size().columns)) + "\n")
    return 0


def shelves_of(domain: str, store: str) -> tuple[Shelf, ...]:
    """Return what the store holds, of one domain if it is named. Raises Refused if it holds nothing of that one."""
    from executor.store import shelves

    found = shelves(store, domain)
    if domain and not found:
        there = [shelf.domain for shelf in shelves(store)]
        known = f"it has some of {', '.join(map(safe, there))}" if there else "it has none at all"
        said = f"{safe(store)} holds nothing of {safe(domain)!r}; {known}"
        raise Refused([Diagnostic("no snapshots of this domain", said, did_you_mean(domain, there))])
    return found


def record_of(shelf: Shelf, snapshot: str) -> Record:
    """Return a snapshot's record. Raises Refused with what is wrong with it, or with the names that there are."""
    record = shelf.record(snapshot)
    if record:
        return record
    for problem in shelf.problems:
        if problem.snapshot == snapshot:
            raise Refused(problem.diagnostics)
    there = [each.snapshot for each in shelf.records]
    known = f"it has {', '.join(there)}" if there else "it has none"
    said = f"{safe(shelf.domain)} has no snapshot {safe(snapshot)!r}; {known}"
    raise Refused([Diagnostic("no such snapshot", said, did_you_mean(snapshot, there))])


def emit_json(said: dict[str, Any]) -> None:
    emit((json.dumps({"version": 1, **said}, indent=2) + "\n").encode())


def _tree(shelf: Shelf, ink: Ink, width: int) -> Iterator[str]:
    from executor.store import tree

    yield ink("bold", safe(shelf.domain))
    twigs = list(tree(shelf.records, shelf.current))
    names = [f"{_branches(twig)}{'*' if twig.record.snapshot == shelf.current else 'o'} {twig.record.snapshot}"
             for twig in twigs]  # fmt: skip
    column = min(max(map(cells, names), default=0), width // 2)
    for name, twig in zip(names, twigs, strict=True):
        record = twig.record
        what = _methods(record) if record.state == "complete" else "being deleted; finish that with --delete"
        memory = size(record.memory_size) if record.memory else "no memory"
        line = f"{middle(name, column)}{' ' * (column - cells(name))}  {_when(record)}  {memory:>9}  {what}"
        yield middle(line, width)
    if not twigs and not shelf.problems:
        yield "no snapshots"
    for problem in shelf.problems:
        yield from (ink("yellow", line) for line in wrap(_problem(problem), width))
    if shelf.current in {record.snapshot for record in shelf.records}:
        yield ink("dim", "* the domain goes on from this one")


def _branches(twig: Twig) -> str:
    """Return the lines of descent to the left of a snapshot; its own begins beside its parent's."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    line, branch = _LINES["box" if encoding.startswith("utf") else "plain"]
    beside = line * twig.column
    return beside[: -len(line)] + branch if twig.begins == "branch" else beside


def _when(record: Record) -> str:
    return safe(record.taken[:16].replace("T", " "))


def _methods(record: Record) -> str:
    """Return how each disk is held: "internal xvda, xvdb; lvm xvdc"."""
    by_method: dict[str, list[str]] = {}
    for held in record.disks:
        by_method.setdefault(held.method, []).append(held.vdev)
    return "; ".join(f"{method} {', '.join(vdevs)}" for method, vdevs in by_method.items()) or "no disks"


def _problem(problem: Problem) -> str:
    first = problem.diagnostics[0]
    what = problem.snapshot or problem.path.rpartition("/")[2]
    said = "; ".join(part for part in (first.summary, first.detail, first.hint) if part)
    return safe(f"! {what}: {said}")


def _page(shelf: Shelf, record: Record, width: int) -> Iterator[str]:
    children = [each.snapshot for each in shelf.records if each.parent == record.snapshot]
    yield safe(f"{record.domain}/{record.snapshot}")
    if record.description:
        yield from (f"  {line}" for line in wrap(safe(record.description), width - 2))
    if record.state != "complete":
        yield "  being deleted: parts of it are gone; finish that with --delete"
    current = ", and the domain goes on from it" if shelf.current == record.snapshot else ""
    yield from _row("taken", f"{record.taken}, capture {record.capture}, Xen {record.xen or 'unknown'}", width)
    yield from _row("domain", f"{record.type.upper()}, {record.uuid}", width)
    yield from _row("parent", f"{record.parent or 'none'}; children: {', '.join(children) or 'none'}{current}", width)
    yield from _row("memory", _memory(record), width)
    for held in record.disks:
        kind = f"{held.format} on {held.backend}, {size(held.capacity)}"
        where = f"{held.holder}, as {held.tag}" if held.method == "internal" else held.holder
        there = f": {where}{_on_disk(held.holder)}" if where else f": {held.reason}" if held.reason else ""
        yield from _row(held.vdev, f"{held.method}{there}", width)
        yield from _row("", f"of {held.path} ({kind})", width)
    yield from _row("record", f"{record.folder}/record.json", width)


def _memory(record: Record) -> str:
    if not record.memory:
        return "none: the domain was off"
    how = " compressed" if record.compressed else ""
    return f"{record.memory}, {size(record.memory_size)} of RAM{how}{_on_disk(record.memory)}"


def _on_disk(path: str) -> str:
    from executor.store import sizes

    found = sizes(path) if path.startswith("/") else None
    return f" ({size(found[1])} on disk)" if found else ""


def _row(name: str, text: str, width: int) -> Iterator[str]:
    for number, line in enumerate(wrap(safe(text), max(width - 11, 20))):
        yield f"  {name if not number else '':<7}  {line}"


def _shelf_json(shelf: Shelf) -> dict[str, Any]:
    return {
        "domain": shelf.domain,
        "current": shelf.current,
        "snapshots": [_record_json(record) for record in shelf.records],
        "problems": [
            {"snapshot": each.snapshot, "path": each.path, "state": each.state,
             "diagnostics": [diagnostic.to_json() for diagnostic in each.diagnostics]}
            for each in shelf.problems
        ],
    }  # fmt: skip


def _record_json(record: Record) -> dict[str, Any]:
    from executor.store import sizes

    found = sizes(record.memory) if record.memory else None
    return {**asdict(record), "memory_allocated": found[1] if found else None}
