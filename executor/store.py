"""Reads a store: the snapshots of each domain, the tree that they make, and what lies there that is no snapshot."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from executor.finding import Odd, regular
from executor.journal import FOLDER as JOURNALS
from planner.facts import Record, record_from_json
from schema.diagnostic import Diagnostic, Position, Refused
from schema.read import read_json
from schema.validate import NEWER

_CURRENT = "current"
_LARGEST = 2**20  # bytes; a record of 100 disks is some 30 KB
_LONGEST = 4096  # bytes of the name of the current snapshot
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SHOWN = 4  # names of files that are said


@dataclass(frozen=True, slots=True)
class Problem:
    """What of a store cannot be taken for a snapshot; `snapshot` is "" for what belongs to the domain.

    state: `unreadable`; `newer`, written by a newer domsnap; `lost`, a memory image without a record; `unfinished`,
    neither: a snapshot is being made or deleted, or that was cut off.
    """

    domain: str
    snapshot: str
    path: str
    state: Literal["unreadable", "newer", "lost", "unfinished"]
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a store holds of one domain: its snapshots by age, and the name of the one that it goes on from, or ""."""

    domain: str
    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()
    current: str = ""

    def record(self, snapshot: str) -> Record | None:
        return next((record for record in self.records if record.snapshot == snapshot), None)


@dataclass(frozen=True, slots=True)
class Twig:
    """A snapshot in its tree. column: how many lines of descent run on beside it, to its left.

    begins: `tree` for a snapshot without a parent, `branch` for one whose parent stands in the column to the left;
    otherwise the nearest one above it in its own column is its parent. ends: whether its line of descent ends with it.
    """

    record: Record
    column: int
    begins: Literal["tree", "branch", ""]
    ends: bool


def shelves(store: str, domain: str = "") -> tuple[Shelf, ...]:
    """Return what a store holds, of one domain if it is named; a store that is not there holds nothing.

    Raises Refused if the store itself cannot be read. Whatever lies in it, and is no snapshot, is a problem of its own.
    """
    place = os.path.realpath(store)
    try:
        top = os.open(place, _FOLDER)
    except FileNotFoundError:
        return ()
    except OSError as error:
        why = f"{place}: {error.strerror}"
        raise Refused([Diagnostic("cannot read the store", why, "run domsnap as root")]) from None
    try:
        names = [name for name in sorted(os.listdir(top)) if name == domain or not domain]
        return tuple(shelf for name in names for shelf in _shelf(top, place, name))
    finally:
        os.close(top)


def reread(record: Record) -> Record | None:
    """Return a record as it is now, None if it is gone or cannot be read any more."""
    try:
        with regular(f"{record.folder}/record.json") as file:
            return _record(record.folder, file.read(_LARGEST))
    except (OSError, Odd, Refused):
        return None


def tree(records: Iterable[Record], current: str = "") -> Iterator[Twig]:
    """Yield the snapshots so that they can be drawn: each after its parent, one line of descent straight on.

    That is the one that leads to `current`, else to the newest child; the others begin beside it, the oldest first. A
    snapshot whose parent is gone, or that descends from itself, begins a tree.
    """
    known = {record.snapshot: record for record in records}
    children: dict[str, list[Record]] = {}
    for record in sorted(known.values(), key=_age):
        children.setdefault(record.parent, []).append(record)
    trunk: set[str] = set()
    while current in known and current not in trunk:
        trunk.add(current)
        current = known[current].parent
    seen: set[str] = set()
    roots = [record for record in sorted(known.values(), key=_age) if record.parent not in known]
    for root in (*roots, *sorted(known.values(), key=_age)):
        waiting: list[tuple[Record, int, Literal["tree", "branch", ""]]] = [(root, 0, "tree")]
        while waiting:
            record, column, begins = waiting.pop()
            if record.snapshot in seen:
                continue
            seen.add(record.snapshot)
            below = [each for each in children.get(record.snapshot, ()) if each.snapshot not in seen]
            below.sort(key=lambda each: each.snapshot in trunk)
            yield Twig(record, column, begins, not below)
            waiting += [(each, column, "") for each in below[-1:]]
            waiting += [(each, column + 1, "branch") for each in below[-2::-1]]


def sizes(path: str) -> tuple[int, int] | None:
    """Return how many bytes a regular file has, and how many it takes on its disk; None for what is none."""
    try:
        about = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (about.st_size, about.st_blocks * 512) if stat.S_ISREG(about.st_mode) else None


def _age(record: Record) -> tuple[str, str]:
    return record.taken, record.snapshot


def _shelf(top: int, store: str, domain: str) -> Iterator[Shelf]:
    """Yield the shelf of STORE/DOMAIN; nothing for what is no folder: it has nothing to do with snapshots."""
    path = f"{store}/{domain}"
    found: list[Record | Problem] = []
    current = ""
    try:
        with _folder(top, domain) as folder:
            try:
                current = _contents(folder, _CURRENT, _LONGEST).decode("utf-8", "replace").strip()
            except FileNotFoundError:
                pass
            except (OSError, Odd) as error:
                found.append(_unreadable(domain, "", f"{path}/{_CURRENT}", error))
            for name in sorted({*os.listdir(folder)} - {_CURRENT}):
                found += _snapshot(folder, f"{path}/{name}", domain, name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, Odd) as error:
        found.append(_unreadable(domain, "", path, error))
    records = sorted((each for each in found if isinstance(each, Record)), key=_age)
    yield Shelf(domain, tuple(records), tuple(each for each in found if isinstance(each, Problem)), current)


def _snapshot(above: int, path: str, domain: str, name: str) -> Iterator[Record | Problem]:
    """Yield what lies in STORE/DOMAIN/NAME, nothing if it is no folder, or the one with the journals."""
    where = f"{path}/record.json"
    try:
        with _folder(above, name) as folder:
            try:
                record = _record(path, _contents(folder, "record.json", _LARGEST))
            except FileNotFoundError:
                if _NAME.fullmatch(name) and name != JOURNALS:
                    yield _without_record(domain, name, path, os.listdir(folder))
                return
    except (FileNotFoundError, NotADirectoryError):
        return
    except Refused as refused:
        newer = any(each.summary == NEWER for each in refused.diagnostics)
        yield Problem(domain, name, where, "newer" if newer else "unreadable", refused.diagnostics)
    except (OSError, Odd) as error:
        yield _unreadable(domain, name, where, error)
    else:
        if (record.domain, record.snapshot) == (domain, name):
            yield record
        else:
            yield _unreadable(domain, name, where, Odd(f"it is the record of {record.domain}/{record.snapshot}"))


@contextmanager
def _folder(above: int, name: str) -> Iterator[int]:
    """Open a folder inside another. Raises NotADirectoryError for what is none; Odd for a link, unless it is to a file:
    who put it in the place of a folder leads elsewhere; and OSError."""
    mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode) and not _is_file(above, name):
        raise Odd("a symbolic link is in its place")
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError
    folder = os.open(name, _FOLDER, dir_fd=above)
    try:
        yield folder
    finally:
        os.close(folder)


def _is_file(above: int, name: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(name, dir_fd=above).st_mode)
    except OSError:
        return False


def _contents(folder: int, name: str, most: int) -> bytes:
    with regular(name, folder) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Odd(f"it has more than {most} bytes")
    return data


def _record(folder: str, data: bytes) -> Record:
    """Return the record that lies in `folder`, wherever it lay when written; raises Refused if it is not valid."""
    return record_from_json({**read_json("record", data, f"{folder}/record.json"), "folder": folder})


def _unreadable(domain: str, snapshot: str, path: str, error: OSError | Odd) -> Problem:
    why = str(error) if isinstance(error, Odd) else error.strerror or type(error).__name__
    said = Diagnostic("cannot be read", why, "put back what belongs there", Position(path, 0, 0))
    return Problem(domain, snapshot, path, "unreadable", (said,))


def _without_record(domain: str, snapshot: str, path: str, names: list[str]) -> Problem:
    """Return what a folder without a record is. A deletion removes the memory first, a creation names it last."""
    holds = ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") or "nothing"
    lost = not {"memory", "memory.compact", "memory.zst"}.isdisjoint(names)
    meaning = "its record was lost" if lost else "a snapshot is being made or deleted there, or that was cut off"
    hint = "put record.json back" if lost else "`domsnap status` says which"
    said = Diagnostic("no record", f"it holds {holds}: {meaning}", hint, Position(path, 0, 0))
    return Problem(domain, snapshot, path, "lost" if lost else "unfinished", (said,))
