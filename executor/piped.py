"""What is written to a program, or read from one, through a pipe: without waiting for ever for one that hangs."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from executor.companion import Failed
from executor.programs import end_of, launch, printing

Write = Callable[[bytes | memoryview], int]
Wanted = Callable[[], None]

_TICK = 0.25  # seconds between two looks whether it is still wanted
_TAIL = 600  # bytes of what a failed program said that are shown


@contextmanager
def written_to(argv: tuple[str, ...], target: int, begun: Callable[[int], None], wanted: Wanted) -> Iterator[Write]:
    """Start a program that writes to the descriptor `target`, and yield what writes to it as many bytes as it takes.

    begun: is told of its pid. wanted: raises what is to end it, should it have to be waited for. Raises Missing, and
    Failed unless it reads all and exits with 0.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    cut = False
    with open(write, "wb", buffering=0) as pipe, _said() as err:
        with open(read, "rb", buffering=0):
            process = launch(argv, read, target, err)

        def put(data: bytes | memoryview) -> int:
            while not select.select([], [pipe], [], _TICK)[1]:
                wanted()
            return os.write(write, data)

        try:
            begun(process.pid)
            try:
                yield put
            except BrokenPipeError:
                cut = True  # it has ended, and how it did says more
            pipe.close()
            _finished(argv, process, err, wanted)
        finally:
            end_of(process)
    if cut:
        raise Failed(f"`{' '.join(argv)}` did not read all that it was given")


@contextmanager
def read_from(argv: tuple[str, ...], wanted: Wanted, seen: Callable[[Any], None]) -> Iterator[BinaryIO]:
    """Start a program and yield what it prints, which must be read to its end; `seen` is told each part that is read.

    wanted: as above. Raises Missing, and Failed unless it exits with 0.
    """
    with _said() as err, printing(argv, err) as (pipe, process):
        try:
            yield io.BufferedReader(_Pipe(pipe, wanted, seen), 2**16)
        except ValueError:  # if what it printed makes no sense because it failed, that says more
            pipe.close()
            _finished(argv, process, err, wanted, (0, -signal.SIGPIPE))
            raise
        pipe.close()
        _finished(argv, process, err, wanted)


class _Pipe(io.RawIOBase):
    def __init__(self, pipe: BinaryIO, wanted: Wanted, seen: Callable[[Any], None]) -> None:
        self.pipe, self.wanted, self.seen = pipe, wanted, seen

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not select.select([self.pipe], [], [], _TICK)[0]:
            self.wanted()
        count = os.readv(self.pipe.fileno(), [buffer])
        self.seen(memoryview(buffer)[:count])
        return count


@contextmanager
def _said() -> Iterator[int]:
    err = os.memfd_create("err")
    try:
        yield err
    finally:
        os.close(err)


def _finished(
    argv: tuple[str, ...], process: subprocess.Popen[bytes], err: int, wanted: Wanted, fine: tuple[int, ...] = (0,)
) -> None:
    while True:
        try:
            status = process.wait(_TICK)
            break
        except subprocess.TimeoutExpired:
            wanted()
    if status not in fine:
        how = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        said = os.pread(err, _TAIL, 0).decode("utf-8", "replace").strip()
        raise Failed(f"`{' '.join(argv)}`: {how}" + (f"; it said {' '.join(said.split())}" if said else ""))
