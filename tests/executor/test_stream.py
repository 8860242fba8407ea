"""The walker knows a whole memory image from one that was cut, altered or is something else."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from executor.stream import LIBXL_MAGIC, XL_MAGIC, BrokenImage, walk

PAGE = bytes(4096)


def record(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def libxc(guest: int, pages: int) -> bytes:
    head = struct.pack(">QIIHHI", 0xFFFFFFFFFFFFFFFF, 0x58454E46, 3, 0, 0, 0) + struct.pack(
        "<IHHII", guest, 12, 0, 4, 17
    )
    data = struct.pack("<II", pages, 0) + b"".join(struct.pack("<Q", n) for n in range(pages)) + PAGE * pages
    # As of a PVH guest on Xen 4.20: policies, end of static data, pages, TSC, context, parameters.
    before = record(0x11, b"x" * 1152) + record(0x12, b"x" * 32) + record(0x10)
    return head + before + record(1, data) + record(8, b"x" * 24) + record(9, b"x" * 2512) + record(10) + record(0)


def image(guest: int = 2, pages: int = 3, config: bytes = b'{"a": 1}\0') -> bytes:
    optional = struct.pack("=I", len(config)) + config
    head = XL_MAGIC + struct.pack("=IIII", 0x01020304, 3, 0, len(optional)) + optional
    body = struct.pack(">QII", LIBXL_MAGIC, 2, 0) + record(1) + libxc(guest, pages)
    if guest == 2:
        body += record(2, struct.pack("<II", 2, 0) + b"key\0value\0") + record(
            3, struct.pack("<II", 2, 0) + b"qemu" * 9
        )
    return head + body + record(0)


def check(tmp_path: Path, data: bytes) -> int:
    """Walk the data as a file; what comes through a pipe must come to the same."""
    path = tmp_path / "memory"
    path.write_bytes(data)
    with path.open("rb") as file:
        found = outcome(lambda: walk(file))
    assert outcome(lambda: piped(data)) == found.replace("8 bytes follow", "more bytes follow")
    if not found.isdecimal():
        raise BrokenImage(found)
    return int(found)


def outcome(walked: Callable[[], int]) -> str:
    try:
        return str(walked())
    except BrokenImage as error:
        return str(error)


def piped(data: bytes) -> int:
    read, write = os.pipe()

    def fill() -> None:
        with suppress(BrokenPipeError), open(write, "wb", buffering=0) as pipe:
            left = memoryview(data)
            while left:
                left = left[pipe.write(left) :]

    filler = Thread(target=fill)
    filler.start()
    try:
        with open(read, "rb") as pipe:
            return walk(pipe)
    finally:
        filler.join()


@pytest.mark.parametrize("guest", [1, 2], ids=["pv", "hvm"])
def test_a_whole_image_is_followed_to_its_end(tmp_path: Path, guest: int) -> None:
    data = image(guest)
    assert check(tmp_path, data) == len(data)


@pytest.mark.parametrize("guest", [1, 2], ids=["pv", "hvm"])
def test_an_image_that_was_cut_anywhere_is_refused(tmp_path: Path, guest: int) -> None:
    data = image(guest, pages=1)
    for end in [*range(200), *range(200, len(data), 97), *range(len(data) - 20, len(data))]:
        with pytest.raises(BrokenImage):
            check(tmp_path, data[:end])


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenImage, match="8 bytes follow"):
        check(tmp_path, image() + bytes(8))


@pytest.mark.parametrize(
    "at,words", [(0, "begin like"), (32, "byte order"), (37, "features"), (40 + 8 + 4 + 4 + 9, "version 2")]
)
def test_an_altered_header_is_refused(tmp_path: Path, at: int, words: str) -> None:
    data = bytearray(image())
    data[at] ^= 0xFF
    with pytest.raises(BrokenImage, match=words):
        check(tmp_path, bytes(data))


def test_flipped_bits_in_the_frame_are_never_taken_for_whole_and_never_a_surprise(tmp_path: Path) -> None:
    data = image(pages=1)
    lengths_end = len(data) - 8
    for at in range(lengths_end, len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x80
        with pytest.raises(BrokenImage):
            check(tmp_path, bytes(broken))
    for at in range(0, len(data), 13):
        broken = bytearray(data)
        broken[at] ^= 0x40
        try:
            check(tmp_path, bytes(broken))
        except BrokenImage:
            pass


def test_an_image_without_memory_is_refused(tmp_path: Path) -> None:
    optional = struct.pack("=I", 1) + b"\0"
    head = XL_MAGIC + struct.pack("=IIII", 0x01020304, 3, 0, len(optional)) + optional
    with pytest.raises(BrokenImage, match="no memory"):
        check(tmp_path, head + struct.pack(">QII", LIBXL_MAGIC, 2, 0) + record(0))


def test_what_comes_through_a_pipe_is_not_kept() -> None:
    data = image(pages=20_000)
    tracemalloc.start()
    try:
        assert piped(data) == len(data)
        assert tracemalloc.get_traced_memory()[1] < len(data) // 8
    finally:
        tracemalloc.stop()
