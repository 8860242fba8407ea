"""The receiver of a live capture keeps what xl sends, knows the end of it, and never says that the domain arrived."""

from __future__ import annotations

import ast
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from executor import receive, stream
from executor.receive import Odd, Stream
from tests.executor.receiving import READY, RECEIVER, Receiving
from tests.executor.test_stream import image, record

HEAD = 32 + 16 + 4 + 9  # xl's header with the configuration of `image`


def follow(data: bytes, piece: int) -> Stream:
    there = Stream()
    for at in range(0, len(data), piece):
        assert not there.ended
        there.feed(memoryview(data)[at : at + piece])
    return there


@pytest.mark.parametrize("guest", [1, 2], ids=["pv", "hvm"])
@pytest.mark.parametrize("piece", [1, 7, 8, 4096, 2**20])
def test_the_end_is_known_with_its_last_byte_however_the_stream_is_cut(guest: int, piece: int) -> None:
    data = image(guest, pages=5)
    there = follow(data[:-1], piece)
    assert not there.ended
    there.feed(memoryview(data)[-1:])
    assert (there.ended, there.pages) == (True, 5)


def patched(at: int, new: bytes) -> bytes:
    data = bytearray(image())
    data[at : at + len(new)] = new
    return bytes(data)


PAGES = image().index(record(0x10)) + len(record(0x10))  # the record of pages
ODD = {
    "something else": (b"ELF" * 30, "begin like"),
    "another byte order": (patched(32, b"\0"), "byte order"),
    "unknown features": (patched(37, b"\xff"), "features"),
    "another version of libxl's stream": (patched(HEAD + 11, b"\3"), "version 2"),
    "a stream of a legacy toolstack": (patched(HEAD + 15, b"\2"), "version 2"),
    "no memory": (image()[: HEAD + 16] + record(0), "no memory"),
    "a second memory": (image()[:-8] + record(1), "out of place"),
    "a checkpoint": (image()[: HEAD + 16] + record(4), "out of place"),
    "a type that is none": (image()[: HEAD + 16] + record(0x4000), "impossible type"),
    "another format of memory": (patched(HEAD + 24 + 3, b"\0"), "libxc's format"),
    "a record without end": (image()[: HEAD + 16] + struct.pack("<II", 3, 2**31), "impossible length"),
    "pages that are not in their record": (patched(PAGES + 8, struct.pack("<I", 5)), "a record of 5 pages"),
    "pages without a number": (image()[:PAGES] + record(1, b"1234"), "no number"),
    "bytes after its end": (image() + b"12345678", "follow its END"),
}


@pytest.mark.parametrize("data,words", ODD.values(), ids=ODD)
def test_what_is_no_such_stream_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(Odd, match=words):
        follow(data, len(data))


def test_it_means_the_same_by_its_words_as_the_walk_over_a_finished_image() -> None:
    names = ("XL_MAGIC", "LIBXL_MAGIC", "LIBXC_MARKER", "LIBXC_MAGIC", "END", "LIBXC_CONTEXT")
    assert [getattr(receive, name) for name in names] == [getattr(stream, name) for name in names]
    assert (receive.FAR, receive.OPTIONAL) == (stream._FAR, stream._OPTIONAL)


def test_the_stream_is_kept_to_its_end_and_the_answering_pipe_until_it_is_told(tmp_path: Path) -> None:
    data = image(pages=900)
    with Receiving(tmp_path) as receiver:
        pid = int(receiver.until("ready").split()[1])
        assert os.stat(tmp_path / "live/answer").st_ino == os.stat(f"/proc/{pid}/fd/1").st_ino
        assert receiver.send(data)
        _, size, pages, _ = receiver.until("end").split()
        assert (int(size), int(pages)) == (len(data), 900)
        assert receiver.process.poll() is None
        receiver.tell()
        assert receiver.end() == 0
        assert receiver.answered == READY
    assert receiver.image.read_bytes() == data
    assert stat.S_IMODE(receiver.image.stat().st_mode) == 0o600


def test_a_copy_of_the_answering_pipe_holds_it_when_the_receiver_is_gone(tmp_path: Path) -> None:
    with Receiving(tmp_path) as receiver:
        receiver.until("ready")
        assert receiver.send(image())
        receiver.until("end")
        held = os.open(tmp_path / "live/answer", os.O_WRONLY)
        receiver.process.kill()
        receiver.process.wait()
        assert receiver.process.stdout
        assert os.read(receiver.process.stdout.fileno(), 100) == READY
        os.set_blocking(receiver.process.stdout.fileno(), False)
        with pytest.raises(BlockingIOError):  # not its end
            os.read(receiver.process.stdout.fileno(), 1)
        os.close(held)
        assert receiver.end() == -9


@pytest.mark.parametrize("how", ["tell", "leave"])
@pytest.mark.parametrize("when", ["begun", "half", "whole"])
def test_it_ends_when_it_is_told_or_its_channel_closes(tmp_path: Path, how: str, when: str) -> None:
    data = image(pages=300)
    with Receiving(tmp_path) as receiver:
        receiver.until("ready")
        if when == "half":
            receiver.send(data[: len(data) // 2])
            receiver.until("copied")
        if when == "whole":
            receiver.send(data)
            receiver.until("end")
        getattr(receiver, how)()
        assert receiver.end() == (0 if when == "whole" else 1)
        assert receiver.answered == READY


@pytest.mark.parametrize("data,words", ODD.values(), ids=ODD)
def test_it_ends_with_the_reason_when_the_stream_is_no_such_stream(tmp_path: Path, data: bytes, words: str) -> None:
    with Receiving(tmp_path) as receiver:
        receiver.until("ready")
        receiver.send(data)
        if words == "follow its END":  # a pipe may bring them later, to somebody who reads no more
            receiver.tell()
            receiver.end()
        else:
            assert words in receiver.until("failed")
            assert receiver.end() == 1
        assert receiver.answered == READY


def test_a_sender_that_hangs_up_is_a_failure(tmp_path: Path) -> None:
    with Receiving(tmp_path) as receiver:
        receiver.send(image()[:5000])
        assert receiver.process.stdin
        receiver.process.stdin.close()
        assert receiver.until("failed") == "failed xl hung up after 5000 bytes"
        assert receiver.end() == 1


def test_an_image_that_is_there_is_left_alone_and_xl_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "memory.part").write_text("precious")
    with Receiving(tmp_path) as receiver:
        assert receiver.end() == 1
        assert receiver.answered == b""
        assert receiver.process.stderr
        assert b"File exists" in receiver.process.stderr.read()
    assert receiver.image.read_text() == "precious"


def test_xl_is_told_nothing_while_nobody_listens_to_the_receiver(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    os.mkfifo(tmp_path / "live/said")
    words = [sys.executable, "-I", str(RECEIVER), str(tmp_path / "memory.part"), str(tmp_path / "live")]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_full_disk_ends_the_copy(tmp_path: Path) -> None:
    with Receiving(tmp_path, limit="ulimit -f 64; ") as receiver:
        receiver.send(image(pages=600))
        assert "memory.part: File too large" in receiver.until("failed")
        assert receiver.end() == 1
        assert receiver.answered == READY


def test_a_copy_that_grows_too_large_is_given_up(tmp_path: Path) -> None:
    with Receiving(tmp_path, "0", "100000") as receiver:
        receiver.send(image(pages=600))
        assert "given up" in receiver.until("failed") and "give_up.size" in receiver.lines[-1]
        assert receiver.end() == 1


def test_a_copy_that_lasts_too_long_is_given_up_though_nothing_comes(tmp_path: Path) -> None:
    with Receiving(tmp_path, "0.3", "0") as receiver:
        receiver.send(image()[:5000])
        assert "given up" in receiver.until("failed") and "give_up.after" in receiver.lines[-1]
        assert receiver.end() == 1


def test_whoever_does_not_read_the_progress_does_not_hold_up_the_copy(tmp_path: Path) -> None:
    with Receiving(tmp_path) as receiver:
        receiver.until("ready")
        while True:  # until not one byte more goes into it
            other = os.open(tmp_path / "live/said", os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(other, b"copied 0 0 0\n" * 100)
            except BlockingIOError:
                break
            finally:
                os.close(other)
        receiver.send(image(pages=900))
        receiver.until("end")


def test_it_takes_no_more_memory_for_a_large_guest(tmp_path: Path) -> None:
    data = image(pages=1024)
    with Receiving(tmp_path) as receiver:
        receiver.until("ready")
        assert receiver.send(data[:PAGES])
        for _ in range(24):  # 96 MiB
            assert receiver.send(data[PAGES : PAGES + 16 + 8 * 1024 + 4096 * 1024])
        said = Path(f"/proc/{receiver.process.pid}/status").read_text()
        most = int(said.partition("VmHWM:")[2].split()[0])
        assert most < 48 * 1024, said


def test_it_can_say_nothing_but_that_it_is_ready() -> None:
    """Whatever runs in it: of all that its text has, only one call writes to standard output, and only those bytes."""
    tree = ast.parse(RECEIVER.read_bytes())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    writes = {ast.unparse(call) for call in calls if ast.unparse(call.func) == "os.write"}
    assert {each for each in writes if each.startswith("os.write(1,")} == {"os.write(1, READY)"}
    assert {each.split(",")[0] for each in writes} == {
        "os.write(1",
        "os.write(2",
        "os.write(self.said",
        "os.write(self.file",
    }
    said = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute))}
    forbidden = {"print", "sys.stdout", "sys.__stdout__", "os.system", "subprocess", "os.fdopen", "open", "os.dup2",
                 "os.writev", "os.sendfile", "os.splice"}  # fmt: skip
    assert not said & forbidden
    assert receive.READY == READY and len(READY) == 54


def test_it_needs_the_standard_library_alone() -> None:
    tree = ast.parse(RECEIVER.read_bytes())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
