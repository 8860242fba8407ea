"""Memory images made of items and taken apart into them, by a reader of its own: slow, and easy to see through."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from executor.stream import LIBXL_MAGIC, XL_MAGIC
from tests.executor.test_stream import record

XTAB, XALLOC, BROKEN = 0xF, 0xE, 0xD
WITHOUT_DATA = (XTAB, XALLOC, BROKEN)
HEAD = (
    XL_MAGIC + struct.pack("=IIIII", 0x01020304, 3, 0, 8, 4) + b"{}\0\0" + struct.pack(">QII", LIBXL_MAGIC, 2, 0)
    + record(1) + struct.pack(">QIIHHI", 2**64 - 1, 0x58454E46, 3, 0, 0, 0) + struct.pack("<IHHII", 2, 12, 0, 4, 17)
)  # fmt: skip
TAIL = record(0) + record(3, struct.pack("<II", 2, 0) + b"qemu" * 9) + record(0)


@dataclass(frozen=True, slots=True)
class Page:
    """One entry of a page-data record; its 4096 bytes are this number again and again, where its type carries data."""

    number: int
    fill: int = 0
    kind: int = 0

    @property
    def data(self) -> bytes:
        return b"" if self.kind in WITHOUT_DATA else struct.pack("<Q", self.fill) * 512


@dataclass(frozen=True, slots=True)
class Other:
    """Any other record of the memory."""

    kind: int
    body: bytes = b""


Item = tuple[Page, ...] | Other


def batch(*pages: Page) -> bytes:
    entries = b"".join(struct.pack("<Q", page.number | page.kind << 60) for page in pages)
    return record(1, struct.pack("<II", len(pages), 0) + entries + b"".join(page.data for page in pages))


def image(items: Iterable[Item]) -> bytes:
    return HEAD + b"".join(record(i.kind, i.body) if isinstance(i, Other) else batch(*i) for i in items) + TAIL


def items(data: bytes) -> list[Item]:
    """Take an image apart again; what surrounds the memory must be as `image` makes it."""
    assert data.startswith(HEAD) and data.endswith(TAIL)
    found: list[Item] = []
    at = len(HEAD)
    while at < len(data) - len(TAIL):
        kind, length = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + 8 + length]
        found.append(_pages(body) if kind == 1 else Other(kind, body))
        at += 8 + -(-length // 8) * 8
    assert at == len(data) - len(TAIL)
    return found


def _pages(body: bytes) -> tuple[Page, ...]:
    (count,) = struct.unpack_from("<I4x", body)
    assert count
    pages, at = [], 8 + 8 * count
    for (entry,) in struct.iter_unpack("<Q", body[8:at]):
        page = Page(entry & 2**52 - 1, 0, entry >> 60)
        if page.data:
            page = Page(page.number, struct.unpack_from("<Q", body, at)[0], page.kind)
            assert body[at : at + 4096] == page.data
            at += 4096
        pages.append(page)
    assert at == len(body)
    return tuple(pages)


def restored(data: bytes) -> dict[int, tuple[int, int | None]]:
    """Return what a restore comes to that takes each entry as it comes: type and content by page; a hole is no page."""
    memory: dict[int, tuple[int, int | None]] = {}
    for item in items(data):
        for page in () if isinstance(item, Other) else item:
            if page.kind in (XTAB, BROKEN):
                memory[page.number] = (page.kind, None)
            elif page.kind == XALLOC:
                memory[page.number] = (XALLOC, memory.get(page.number, (0, None))[1])
            else:
                memory[page.number] = (page.kind, page.fill)
    return memory


def flat(data: bytes) -> list[Page | Other]:
    """Return the entries and other records of an image, one after the other."""
    return [each for item in items(data) for each in ([item] if isinstance(item, Other) else item)]
