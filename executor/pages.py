"""Which copies of a page in a memory image a later one supersedes, and the image without them.

A live capture holds a page again each time the guest changed it. A page-data record has a body of its number of
entries, the entries (the page's number in bits 0-51, its type in 60-63), and 4096 bytes for each whose type carries
data. Whatever comes later of the same page takes its place on restore, that it is a hole (XTAB, BROKEN) too; that it is
there (XALLOC) says nothing of what it holds. Every other record, and what surrounds the memory, stays as it is where
it is.

Formats: Xen's docs/specs/libxc-migration-stream.pandoc; tools/libs/guest/xg_sr_restore.c for what a restore does.
"""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress, repeat
from typing import BinaryIO

from executor.stream import END, walk

PAGE = 4096
_PAGE_DATA = 1
# Of the other types, all but VERIFY (the sender sends every page again, to be compared), CHECKPOINT and its list of
# dirty pages: those give pages another meaning. Optional ones are passed over by a restore that does not know them.
_HARMLESS, _OPTIONAL = frozenset({0x0, *range(0x2, 0xD), 0x10, 0x11, 0x12}), 0x80000000
_PAGE_NUMBER, _TYPE_SHIFT, _XALLOC = 2**60 - 1, 60, 0xE  # bits 52-59 must be zero: a number too large otherwise
# By type: 1 where data follows (no table, the tables of four levels, the same pinned), 0 where none does, 2 is no type.
_CARRIES = bytes([1, 1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, *[2] * 240])
_OTHER = bytes([1, 0, *[0] * 254])
_MOST = 2**30  # page numbers, of 4 TiB: a byte is kept for each
_LARGEST = 2**26  # bytes of a record; Xen's have at most 1024 pages
_PART = 2**20  # bytes copied at a time


class Declined(ValueError):
    """An image is to stay as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the page-data records of an image of `size` bytes are, and which of their entries are superseded.

    batches: where each body begins and how long it is, in turn. lost: a byte an entry, 1 where it is superseded.
    saved: bytes that the image has for nothing.
    """

    size: int
    batches: array[int]
    lost: bytes
    saved: int


def plain(image: BinaryIO) -> Outline:
    """Return the outline of an image that is to stay as it is."""
    return Outline(os.fstat(image.fileno()).st_size, array("Q"), b"", 0)


def outline(image: BinaryIO) -> Outline:
    """Look through the numbers of an image's pages, once forwards and once backwards.

    Raises Declined for what cannot be told for sure, BrokenImage for what is no whole image.
    """
    batches, ends = array("Q"), []

    def tell(kind: int, at: int, length: int) -> None:
        if kind == _PAGE_DATA:
            batches.extend((at, length))
        elif kind == END:
            ends.append(at)
        elif kind not in _HARMLESS and kind < _OPTIONAL:
            raise Declined(f"it has a record of type {kind:#x}, after which a page may mean something else")

    size = walk(image, tell)
    if len(ends) != 1:
        raise Declined("it holds more than one memory")
    seen, parts, saved = bytearray(), [], 0
    for index in range(len(batches) - 2, -1, -2):
        pages, types = _entries(image, batches[index], batches[index + 1])
        if (most := max(pages)) >= len(seen):
            seen.extend(bytes(most + 1 - len(seen)))
        lost = bytes(map(seen.__getitem__, pages))
        saved += 8 * sum(lost) + PAGE * sum(compress(types.translate(_CARRIES), lost)) + 16 * (0 not in lost)
        # No loop of Python's own for each page: a dom0 may be slow, and a guest have millions.
        says = pages if _XALLOC not in types else [page for page, kind in zip(pages, types, strict=True) if kind != 0xE]
        deque(map(seen.__setitem__, says, repeat(1)), maxlen=0)
        parts.append(lost)
    return Outline(size, batches, b"".join(reversed(parts)), saved)


def _entries(image: BinaryIO, at: int, length: int) -> tuple[list[int], bytes]:
    """Return the page numbers of a page-data record, and a byte for the type of each; raises Declined."""
    if length > _LARGEST:
        raise Declined(f"a record of pages has {length} bytes, at byte {at}")
    (count,) = struct.unpack("<I", os.pread(image.fileno(), 4, at))
    if not 8 <= 8 * count <= length - 8:
        raise Declined(f"a record of {count} pages has {length} bytes, at byte {at}")
    entries = _numbers(os.pread(image.fileno(), 8 * count, at + 8))
    pages, types = list(map(_PAGE_NUMBER.__and__, entries)), bytes(map(_TYPE_SHIFT.__rrshift__, entries))
    carries = types.translate(_CARRIES)
    if 2 in carries or max(pages) >= _MOST:
        raise Declined(f"a page has an unknown type, or a number beyond 4 TiB, in the record at byte {at}")
    if length != 8 + 8 * count + PAGE * carries.count(1):
        raise Declined(f"a record of {count} pages has {length} bytes, at byte {at}")
    if len(set(pages)) != count:
        raise Declined(f"a page stands twice in one record, at byte {at}")
    return pages, types


def _numbers(data: bytes) -> array[int]:
    numbers = array("Q")
    numbers.frombytes(data)  # little-endian, as every machine that Xen runs on
    return numbers


class Copy:
    """Writes an image without what its outline says is superseded.

    was, now: the SHA-256 of all that was read, and of all that was written. told: is told of the bytes read so far.
    """

    def __init__(self, image: BinaryIO, told: Callable[[int], None]) -> None:
        self.image, self.told = image, told
        self.was, self.now = hashlib.sha256(), hashlib.sha256()
        self.beside = ThreadPoolExecutor(1)
        self.hashed: Future[None] | None = None

    def make(self, outline: Outline, write: Callable[[memoryview], int]) -> None:
        """Write it all by `write`, which says how many bytes it took.

        Raises OSError, Declined if the image has changed, and what `told` and `write` raise.
        """
        self.write = write
        self.image.seek(0)
        with self.beside:
            self._make(outline)

    def _make(self, outline: Outline) -> None:
        first = done = 0
        for at, length in zip(outline.batches[::2], outline.batches[1::2], strict=True):
            (count,) = struct.unpack("<I", os.pread(self.image.fileno(), 4, at))
            lost, first = outline.lost[first : first + count], first + count
            if 1 in lost:
                self._copy(at - 8 - done)
                self._write(_without(next(self._read(length + 8, length + 8)), lost))
                done = at + length
        self._copy(outline.size - done)

    def _copy(self, length: int) -> None:
        for part in self._read(length, _PART):
            self._write(part)

    def _read(self, length: int, most: int) -> Iterator[bytes]:
        while length:
            part = self.image.read(min(length, most))
            if not part:
                raise Declined("it has changed meanwhile")
            # The digest of what is read takes as long as all the rest: it is made on another processor, a part behind.
            if self.hashed:
                self.hashed.result()
            self.hashed = self.beside.submit(self.was.update, part)
            self.told(self.image.tell())
            length -= len(part)
            yield part

    def _write(self, data: bytes) -> None:
        self.now.update(data)
        left = memoryview(data)
        while left:
            left = left[self.write(left) :]


def _without(record: bytes, lost: bytes) -> bytes:
    """Return a page-data record, its head included, without the entries that are superseded; b"" if none is left."""
    if 0 not in lost:
        return b""
    kept, entries = lost.translate(_OTHER), _numbers(record[16 : 16 + 8 * len(lost)])
    carries = bytes(map(_TYPE_SHIFT.__rrshift__, entries)).translate(_CARRIES)
    left, follow = array("Q", compress(entries, kept)), bytes(compress(kept, carries))
    data = memoryview(record)[16 + 8 * len(lost) :]
    head = struct.pack("<II", _PAGE_DATA, 8 + 8 * len(left) + PAGE * follow.count(1))
    parts: list[bytes | memoryview] = [head, struct.pack("<I", len(left)), record[12:16], left.tobytes()]
    begin = follow.find(1)
    while begin >= 0:  # each run of pages in one piece
        end = follow.find(0, begin) if 0 in follow[begin:] else len(follow)
        parts.append(data[PAGE * begin : PAGE * end])
        begin = follow.find(1, end)
    return b"".join(parts)
