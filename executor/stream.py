"""Walks a Xen memory image to the END of its stream. Standard library alone: generated scripts carry this file along.

Formats: Xen's docs/specs/libxl-migration-stream.pandoc, libxc-migration-stream.pandoc and tools/xl/xl.h.
"""

import os
import struct
from collections.abc import Callable
from typing import Any

XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
LIBXL_MAGIC = 0x4C6962786C466D74
LIBXC_MARKER, LIBXC_MAGIC = 0xFFFFFFFFFFFFFFFF, 0x58454E46
END, LIBXC_CONTEXT = 0, 1
# Both streams have a handful of types (17 of libxc's, such as CPUID policies, were seen on Xen 4.20), and every Xen may
# add some; a number far off is no type, unless it is of the optional ones.
_FAR, _OPTIONAL = 0x100, 0x80000000
_PART = 2**20  # bytes that are read at a time where they cannot be passed over


class BrokenImage(ValueError):
    """The file is not a complete memory image; the message says what is wrong, and at which byte."""


class Forward:
    """A file that is followed from its start, or a pipe; `at` is how many bytes of it have been passed."""

    def __init__(self, file: Any) -> None:
        self.file, self.at = file, 0
        self.size = os.fstat(file.fileno()).st_size if file.seekable() else None

    def data(self, length: int) -> bytes:
        data: bytes = self.file.read(length)
        self.at += len(data)
        return data

    def read(self, layout: str, what: str) -> tuple[int, ...]:
        length = struct.calcsize(layout)
        data = self.data(length)
        if len(data) != length:
            raise BrokenImage(f"it ends inside {what}, at byte {self.at}")
        return struct.unpack(layout, data)

    def skip(self, length: int, what: str) -> None:
        end = self.at + length
        if self.size is None:
            while self.at < end and self.data(min(end - self.at, _PART)):
                pass
        elif end <= self.size:
            self.at = self.file.seek(end)
        if self.at < end:
            raise BrokenImage(f"it ends inside {what}, at byte {self.at if self.size is None else self.size}")


def walk(file: Any, tell: Callable[[int, int, int], None] | None = None) -> int:
    """Follow a memory image from its start to its END record and the end of the file; return its size in bytes.

    file: what can be read; where it can be sought in too, as in a file, page data is passed over, not read.
    tell: is told of each record of the memory: its type, where its body begins, how long that is without its padding.
    Raises BrokenImage.
    """
    image = Forward(file)
    _head(image)
    context = False
    while True:
        kind, length = image.read("<II", "a record")
        if _FAR <= kind < _OPTIONAL:
            raise BrokenImage(f"a record of the impossible type {kind}, at byte {image.at}")
        image.skip(-(-length // 8) * 8, "a record")
        if kind == LIBXC_CONTEXT:
            context = True
            _libxc(image, tell)
        if kind == END:
            break
    if not context:
        raise BrokenImage("it holds no memory")
    if (end := image.at) != image.size and image.data(1):
        more = "more bytes" if image.size is None else f"{image.size - end} bytes"
        raise BrokenImage(f"{more} follow its END, at byte {end}")
    return end


def _libxc(image: Forward, tell: Callable[[int, int, int], None] | None) -> None:
    marker, magic, version, options, _, _ = image.read(">QIIHHI", "the memory's header")
    if (marker, magic) != (LIBXC_MARKER, LIBXC_MAGIC) or version not in (2, 3) or options & 1:
        raise BrokenImage("its memory is not in libxc's format")
    image.read("<IHHII", "the memory's domain header")
    while True:
        kind, length = image.read("<II", "a record of the memory")
        if _FAR <= kind < _OPTIONAL:
            raise BrokenImage(f"a memory record of the impossible type {kind}")
        if tell:
            tell(kind, image.at, length)
        image.skip(-(-length // 8) * 8, "a record of the memory")
        if kind == 0:
            return


def _head(image: Forward) -> None:
    if image.data(len(XL_MAGIC)) != XL_MAGIC:
        raise BrokenImage("it does not begin like a memory image of xl")
    order, mandatory, _, length = image.read("=IIII", "the header")
    if order != 0x01020304:
        raise BrokenImage("it has another byte order")
    if mandatory & ~3 or not mandatory & 2:
        raise BrokenImage(f"it needs features {mandatory:#x} that are not known")
    image.skip(length, "the configuration")
    magic, version, options = image.read(">QII", "the stream's header")
    if (magic, version) != (LIBXL_MAGIC, 2) or options:
        raise BrokenImage(f"its stream is not version 2 of libxl's, at byte {image.at}")
