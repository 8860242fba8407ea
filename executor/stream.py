"""Walks a Xen memory image to the END of its stream. Standard library alone: generated scripts carry this file along.

Formats: Xen's docs/specs/libxl-migration-stream.pandoc, libxc-migration-stream.pandoc and tools/xl/xl.h.
"""

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
LIBXL_MAGIC = 0x4C6962786C466D74
LIBXC_MARKER, LIBXC_MAGIC = 0xFFFFFFFFFFFFFFFF, 0x58454E46
END, LIBXC_CONTEXT = 0, 1
# Both streams have a handful of types (17 of libxc's, such as CPUID policies, were seen on Xen 4.20), and every Xen may
# add some; a number far off is no type, unless it is of the optional ones.
_FAR, _OPTIONAL = 0x100, 0x80000000


class BrokenImage(ValueError):
    """The file is not a complete memory image; the message says what is wrong, and at which byte."""


def walk(file: BinaryIO, tell: Callable[[int, int, int], None] | None = None) -> int:
    """Follow a memory image from its start to its END record and the end of the file; return its size in bytes.

    tell: is told of each record of the memory: its type, where its body begins, how long that is without its padding.
    Raises BrokenImage. Page data is passed over, not read.
    """
    size = os.fstat(file.fileno()).st_size

    def read(layout: str, what: str) -> tuple[int, ...]:
        length = struct.calcsize(layout)
        data = file.read(length)
        if len(data) != length:
            raise BrokenImage(f"it ends inside {what}, at byte {size}")
        return struct.unpack(layout, data)

    def skip(length: int, what: str) -> None:
        if file.tell() + length > size:
            raise BrokenImage(f"it ends inside {what}, at byte {size}")
        file.seek(length, os.SEEK_CUR)

    _head(file, read, skip)
    context = False
    while True:
        kind, length = read("<II", "a record")
        if _FAR <= kind < _OPTIONAL:
            raise BrokenImage(f"a record of the impossible type {kind}, at byte {file.tell()}")
        skip(-(-length // 8) * 8, "a record")
        if kind == LIBXC_CONTEXT:
            context = True
            _libxc(read, skip, lambda kind, length: tell(kind, file.tell(), length) if tell else None)
        if kind == END:
            break
    if not context:
        raise BrokenImage("it holds no memory")
    if file.tell() != size:
        raise BrokenImage(f"{size - file.tell()} bytes follow its END, at byte {file.tell()}")
    return size


def _libxc(
    read: Callable[[str, str], tuple[int, ...]], skip: Callable[[int, str], None], tell: Callable[[int, int], None]
) -> None:
    marker, magic, version, options, _, _ = read(">QIIHHI", "the memory's header")
    if (marker, magic) != (LIBXC_MARKER, LIBXC_MAGIC) or version not in (2, 3) or options & 1:
        raise BrokenImage("its memory is not in libxc's format")
    read("<IHHII", "the memory's domain header")
    while True:
        kind, length = read("<II", "a record of the memory")
        if _FAR <= kind < _OPTIONAL:
            raise BrokenImage(f"a memory record of the impossible type {kind}")
        tell(kind, length)
        skip(-(-length // 8) * 8, "a record of the memory")
        if kind == 0:
            return


def _head(file: BinaryIO, read: Callable[[str, str], tuple[int, ...]], skip: Callable[[int, str], None]) -> None:
    if file.read(len(XL_MAGIC)) != XL_MAGIC:
        raise BrokenImage("it does not begin like a memory image of xl")
    order, mandatory, _, length = read("=IIII", "the header")
    if order != 0x01020304:
        raise BrokenImage("it has another byte order")
    if mandatory & ~3 or not mandatory & 2:
        raise BrokenImage(f"it needs features {mandatory:#x} that are not known")
    skip(length, "the configuration")
    magic, version, options = read(">QII", "the stream's header")
    if (magic, version) != (LIBXL_MAGIC, 2) or options:
        raise BrokenImage(f"its stream is not version 2 of libxl's, at byte {file.tell()}")
