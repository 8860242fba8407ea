"""Memory images as xl and libxl write and read them: xl's header, the configuration, libxc's pages, QEMU's state.

Formats: Xen's tools/xl/xl.h, docs/specs/libxl-migration-stream.pandoc and libxc-migration-stream.pandoc.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
BYTE_ORDER = 0x01020304
JSON_CONFIG, STREAM_V2 = 1, 2
PAGE = 4096
_AT_ONCE = 256  # pages in a record
_END, _LIBXC_CONTEXT, _EMULATOR_CONTEXT = 0, 1, 3
_PAGE_DATA, _STATIC_DATA_END, _CPUID_POLICY, _MSR_POLICY = 1, 0x10, 0x11, 0x12
_UPSTREAM_QEMU = 2
_LIBXL = struct.pack(">QII", 0x4C6962786C466D74, 2, 0)
_LIBXC = struct.pack(">QIIHHI", 2**64 - 1, 0x58454E46, 3, 0, 0, 0)


class Truncated(Exception):
    """The file ends where more should follow."""


class NotXl(Exception):
    """xl would refuse the file with these words."""


@dataclass(frozen=True, slots=True)
class Head:
    """xl's header. flags: mandatory ones. length: of the optional data, which `config` (JSON) is part of."""

    flags: int
    length: int
    config: bytes

    @property
    def info(self) -> str:
        return f"0x{self.flags:x}/0x0/{self.length}"


def write_head(file: int, config: bytes) -> Head:
    """Write xl's header to a file descriptor; raises OSError."""
    optional = struct.pack("=I", len(config) + 1) + config + b"\0"
    _put(file, XL_MAGIC + struct.pack("=IIII", BYTE_ORDER, JSON_CONFIG | STREAM_V2, 0, len(optional)) + optional)
    return Head(JSON_CONFIG | STREAM_V2, len(optional), config)


def write_stream(
    file: int, memory: bytes, device: bytes, version: tuple[int, int], wait: Callable[[int], None]
) -> None:
    """Write libxl's stream: the pages that hold anything, then QEMU's state; `wait` is told how many bytes went out."""
    write_passes(file, [pages(memory)], lambda: device, version, wait)


def pages(memory: bytes, before: bytes = b"") -> dict[int, bytes]:
    """Return the pages by number that differ from what they were before; those that hold anything if that is b""."""
    before = before or bytes(len(memory))
    parts = {at // PAGE: memory[at : at + PAGE] for at in range(0, len(memory), PAGE)}
    return {number: page for number, page in parts.items() if page != before[number * PAGE : (number + 1) * PAGE]}


def write_passes(
    file: int,
    passes: Iterable[Mapping[int, bytes]],
    device: Callable[[], bytes],
    version: tuple[int, int],
    wait: Callable[[int], None],
) -> None:
    """Write libxl's stream of pages in several passes, the later ones over the earlier, then QEMU's state of then."""
    _put(file, _LIBXL + _record(_LIBXC_CONTEXT))
    _put(file, _LIBXC + struct.pack("<IHHII", 2, PAGE.bit_length() - 1, 0, *version))
    # As Xen 4.17 and 4.20 begin; nobody here reads the policies.
    _put(file, _record(_CPUID_POLICY, bytes(1152)) + _record(_MSR_POLICY, bytes(32)) + _record(_STATIC_DATA_END))
    for each in passes:
        numbers = list(each)
        for first in range(0, len(numbers), _AT_ONCE):
            part = numbers[first : first + _AT_ONCE]
            data = b"".join(each[number] for number in part)
            _put(file, _record(_PAGE_DATA, struct.pack(f"<II{len(part)}Q", len(part), 0, *part) + data))
            wait(len(data))
    state = struct.pack("<II", _UPSTREAM_QEMU, 0) + device()
    _put(file, _record(_END) + _record(_EMULATOR_CONTEXT, state) + _record(_END))


def _put(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def read_head(file: BinaryIO) -> Head:
    """Read xl's header; raises NotXl or Truncated. The file may be a pipe."""
    if _read(file, len(XL_MAGIC), b"") != XL_MAGIC:
        raise NotXl("File has wrong magic number - corrupt or for a different tool?")
    order, flags, _, length = struct.unpack("=IIII", _read(file, 16))
    if order != BYTE_ORDER:
        raise NotXl("File has wrong byte order")
    if flags & ~(JSON_CONFIG | STREAM_V2):
        unknown = flags & ~(JSON_CONFIG | STREAM_V2)
        raise NotXl(f"Savefile has mandatory flag(s) 0x{unknown:x} which are not supported; need newer xl")
    optional = _read(file, length)
    (size,) = struct.unpack_from("=I", optional) if length >= 4 else (0,)
    return Head(flags, length, optional[4 : 4 + size].rstrip(b"\0"))


def read_stream(file: BinaryIO, size: int) -> tuple[bytes, bytes]:
    """Read libxl's stream; return a memory of `size` bytes and QEMU's state. Raises Truncated, or NotXl."""
    memory, device = bytearray(size), b""
    if _read(file, len(_LIBXL)) != _LIBXL:
        raise NotXl("Invalid ident")
    while True:
        kind, body = _next(file)
        if kind == _END:
            return bytes(memory), device
        if kind == _LIBXC_CONTEXT:
            _pages(file, memory)
        elif kind == _EMULATOR_CONTEXT:
            device = body[8:]


def _pages(file: BinaryIO, memory: bytearray) -> None:
    if _read(file, len(_LIBXC)) != _LIBXC:
        raise NotXl("Invalid marker")
    _read(file, 16)
    while True:
        kind, body = _next(file)
        if kind == _END:
            return
        if kind == _PAGE_DATA:
            (count,) = struct.unpack_from("<I", body)
            numbers = struct.unpack_from(f"<{count}Q", body, 8)
            if max(numbers, default=0) >= len(memory) // PAGE:
                raise NotXl("a page that the domain does not have")
            for index, number in enumerate(numbers):
                start = 8 + 8 * count + index * PAGE
                memory[number * PAGE : (number + 1) * PAGE] = body[start : start + PAGE]


def _record(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<II", kind, len(body)) + body + b"\0" * (-len(body) % 8)


def _next(file: BinaryIO) -> tuple[int, bytes]:
    kind, length = struct.unpack("<II", _read(file, 8))
    return kind, _read(file, length + -length % 8)[:length]


def _read(file: BinaryIO, size: int, otherwise: bytes | None = None) -> bytes:
    data = file.read(size)
    if len(data) == size:
        return data
    if otherwise is not None:
        return otherwise
    raise Truncated
