"""Looks whether everything that a snapshot needs is still there and unaltered: its memory byte for byte."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from executor.companion import Failed
from executor.finding import Finding, NotFine, Outcome, opened
from executor.holders import Holders
from executor.piped import read_from
from executor.programs import Missing
from executor.store import Problem, reread
from executor.stream import BrokenImage, walk
from planner.facts import Record
from planner.operations.domain import decompress

# Told how many bytes of how many of a memory image have been read.
Progress = Callable[[int, int], None]

_PART = 2**20  # bytes read at a time
_LONGEST = 2**14  # bytes of the file with a digest: its one line names a path
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\n]+)\n?")


def verify(record: Record, holders: Holders, progress: Progress | None = None) -> Iterator[Finding]:
    """Yield what is found of the record, the memory and each disk of a snapshot, in this order; nothing is written.

    holders: to be shared by the snapshots that are verified in one go. A snapshot that is changed meanwhile ends it.
    """
    where = f"{record.folder}/record.json"
    if record.state != "complete":
        detail = "it is being deleted: parts of it are gone; finish that with --delete"
        yield Finding(record.domain, record.snapshot, "record", where, "lost", detail)
        return
    yield Finding(record.domain, record.snapshot, "record", where, "fine", where)
    looks: list[tuple[str, str, Callable[[], str]]] = [
        ("memory", record.memory, lambda: _memory(record, progress)),
        *((held.vdev, held.holder, lambda held=held: holders.look(held)) for held in record.disks),
    ]
    for what, path, look in looks:
        try:
            found = Finding(record.domain, record.snapshot, what, path, "fine", look())
        except NotFine as error:
            if reread(record) != record:
                detail = "the snapshot was changed or deleted while it was looked at: verify again"
                yield Finding(record.domain, record.snapshot, "record", where, "unchecked", detail)
                return
            found = Finding(record.domain, record.snapshot, what, path, error.outcome, str(error))
        yield found


def finding(problem: Problem) -> Finding | None:
    """Return what a place in the store comes to where no snapshot can be read; None where none was ever whole."""
    outcomes: dict[str, Outcome] = {"unreadable": "altered", "newer": "unchecked", "lost": "lost"}
    if problem.state not in outcomes:
        return None
    what = "record" if problem.snapshot else problem.path.rpartition("/")[2]
    first = problem.diagnostics[0]
    detail = f"{problem.path}: {first.summary}" + (f": {first.detail}" if first.detail else "")
    return Finding(problem.domain, problem.snapshot, what, problem.path, outcomes[problem.state], detail)


def _memory(record: Record, progress: Progress | None) -> str:
    if not record.memory:
        return "the domain was off: it had no memory"
    image = record.memory
    try:
        with opened(image) as file:
            if not record.compressed:
                walk(file)
            if digest(file, progress) != noted(image):
                raise NotFine("altered", f"{image} is not what was written: its SHA-256 is another")
        if record.compressed:
            _decompressed(image)
    except BrokenImage as error:
        raise NotFine("altered", f"{image} is not a whole memory image: {error}") from None
    except NotFine as error:
        beside = f"{record.folder}/{os.path.basename(image)}"
        if error.outcome == "lost" and image != beside and os.path.isfile(beside):
            raise NotFine("lost", f"{error}; {beside} is: was the folder moved?") from None
        raise
    return f"{image}: whole, and its SHA-256 is as written"


def noted(image: str) -> str:
    """Return the digest that was written beside a memory image, for `sha256sum -c` to read; raises NotFine."""
    path = f"{image}.sha256"
    try:
        with opened(path) as file:
            data = file.read(_LONGEST)
    except NotFine as error:
        raise NotFine(error.outcome, f"{error}: whether the memory is unaltered cannot be told") from None
    line = _LINE.fullmatch(data.decode("utf-8", "surrogateescape"))
    if line is None:
        raise NotFine("altered", f"{path} does not hold one SHA-256 and the name of the image")
    if line[2] != image:
        raise NotFine("altered", f"{path} is about {line[2]}, not about {image}")
    return line[1]


def digest(file: BinaryIO, progress: Progress | None = None) -> str:
    """Return the SHA-256 of a file as it is on its disk, not in memory; nor is it kept there: a dom0 has little."""
    said, at, size = hashlib.sha256(), 0, os.fstat(file.fileno()).st_size
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    while part := file.read(_PART):
        said.update(part)
        os.posix_fadvise(file.fileno(), at, len(part), os.POSIX_FADV_DONTNEED)
        at += len(part)
        if progress:
            progress(at, size)
    return said.hexdigest()


def _decompressed(image: str) -> None:
    try:
        with read_from(decompress(image), lambda: None, lambda _: None) as file:
            walk(file)
    except Missing as error:
        detail = f"{image} cannot be decompressed here, nor reverted to: {error} (apt install zstd)"
        raise NotFine("unchecked", detail) from None
    except Failed as error:
        raise NotFine("altered", f"{image} cannot be decompressed: {error}") from None
