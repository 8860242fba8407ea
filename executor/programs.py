"""The one funnel through which `apply` starts programs: no shell, no input, no terminal, messages in English."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from executor.companion import Failed
from executor.signals import Signals
from planner.commands import Run

SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 120.0  # seconds that a program may take which moves no data; DOMSNAP_PATIENCE says otherwise
# These move as much data as there is. An xl that is killed while it saves leaves the guest suspended.
_LONG = {
    ("xl", "save"), ("xl", "restore"), ("qemu-img", "convert"), ("qemu-img", "rebase"), ("qemu-img", "snapshot"),
    ("cp",), ("sync",), ("sha256sum",), ("zstd",), ("lvcreate",), ("lvconvert",), ("lvremove",), ("vhd-util",),
}  # fmt: skip
_TICK = 0.25  # seconds
_TAIL = 2000  # bytes of what a failed program said that are shown


class Hung(Failed):
    """A program did not come to its end, and was killed."""


class Missing(Failed):
    """A program cannot be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a program did: its exit status (-n: ended by signal n), what it printed and what it said.

    input: the exit status of the program whose output it read, 0 where there was none.
    """

    status: int
    out: str
    err: str
    input: int = 0


def search_path() -> str:
    """Return where programs are looked for; DOMSNAP_PATH says otherwise, as for scripts."""
    return os.environ.get("DOMSNAP_PATH", SEARCH)


class Watch:
    """Is told of a program's life: `begun` of its pid, `tick` four times a second while it runs."""

    def begun(self, pid: int) -> None:
        """Take note of a program that has begun."""

    def tick(self, argv: tuple[str, ...]) -> None:
        """Take note that it still runs."""

    def told(self, text: str, *, passing: bool = False) -> None:
        """Take note of what is worth saying; `passing` until the next of its kind is told."""

    def captured(self, word: str, numbers: list[float]) -> None:
        """Take note of what is told of a live capture: see executor/migrate.py."""


def surroundings() -> dict[str, str]:
    """Return the environment of programs: messages in English, and programs only from where they are looked for."""
    return {**os.environ, "LC_ALL": "C", "PATH": search_path()}


def start(
    argv: tuple[str, ...], watch: Watch | None = None, window: int | None = None, given: tuple[str, ...] = ()
) -> Done:
    """Run a program to its end. Raises Missing if it cannot be started, Hung if it takes longer than its kind may.

    given: argv of a program whose output it reads. Output goes to memory: a daemon that is left behind (xl restore does
    that) must not hold a pipe open, and the disk may be full.
    """
    watch = watch or Watch()
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    try:
        if not given:
            stdin = subprocess.DEVNULL if window is None else window
            return Done(_wait(launch(argv, stdin, out, err), argv, watch), _text(out), _text(err))
        with printing(given, err) as (pipe, source):
            process = launch(argv, pipe.fileno(), out, err)
            pipe.close()  # what is not read to its end must not wait for us
            status = _wait(process, argv, watch)
            return Done(status, _text(out), _text(err), _wait(source, given, Watch(), patience()))
    finally:
        os.close(out)
        os.close(err)


@contextmanager
def printing(argv: tuple[str, ...], err: int) -> Iterator[tuple[BinaryIO, subprocess.Popen[bytes]]]:
    """Start a program and yield the pipe that it prints to, and itself; it does not outlive that. Raises Missing."""
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as pipe:
        with open(write, "wb", buffering=0):
            process = launch(argv, subprocess.DEVNULL, write, err)
        try:
            yield pipe, process
        finally:
            end_of(process)


def launch(argv: tuple[str, ...], stdin: int, out: int, err: int) -> subprocess.Popen[bytes]:
    """Start a program; raises Missing.

    It has a session of its own: a Ctrl-C is for domsnap, and an xl that it interrupts would leave the guest suspended.
    """
    try:
        return subprocess.Popen(
            argv, stdin=stdin, stdout=out, stderr=err, env=surroundings(), start_new_session=True,
            executable=_find(argv[0]),
        )  # fmt: skip
    except OSError as error:
        raise Missing(f"{argv[0]}: {error.strerror}") from None


def end_of(process: subprocess.Popen[bytes]) -> None:
    """End a program that may run still, and wait for that, but not for one that hangs in the kernel."""
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)


def _wait(process: subprocess.Popen[bytes], argv: tuple[str, ...], watch: Watch, limit: float | None = None) -> int:
    """Return the exit status; limit: seconds, None for what a program of its kind may take. Raises Hung."""
    watch.begun(process.pid)
    if limit is None and argv[:2] not in _LONG and argv[:1] not in _LONG:
        limit = patience()
    end = time.monotonic() + limit if limit else None
    # Popen.wait with a time limit looks up to 50 ms apart: too seldom while a guest stands still.
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], _TICK)[0]:
            watch.tick(argv)
            if end and time.monotonic() >= end:
                end_of(process)
                raise Hung(f"{' '.join(argv)}: no end within {limit:g} seconds; it was killed")
    finally:
        os.close(ended)
    return process.wait()


def patience() -> float:
    """Return how many seconds a program may take that moves no data; a monitor half of it for an answer."""
    try:
        return max(1.0, float(os.environ.get("DOMSNAP_PATIENCE", PATIENCE)))
    except ValueError:
        return PATIENCE


def run(command: Run, signals: Signals, watch: Watch | None = None, window: int | None = None) -> None:
    """Carry out a command; raises Failed with what the program said, unless all is as the command wants it."""
    if command.when and start(command.when).status != 0:
        return
    if command.unless and start(command.unless).status == 0:
        return
    if command.when or command.unless:
        signals.still_wanted()  # a script, too, ends between a guard and what it guards
    end = time.monotonic() + command.within
    hung = False
    while True:
        try:
            done = start(command.argv, watch, window, command.input)
        except Hung:
            if hung or not command.within:
                raise
            hung = True  # what is tried again is tried again after this too, once
            continue
        if fine(command, done):
            return
        if time.monotonic() >= end:
            break
        signals.wait(1)
    said = (done.err.strip() or done.out.strip())[-_TAIL:]
    line = " | ".join(" ".join(argv) for argv in (command.input, command.argv) if argv)
    raise Failed(f"not as expected (exit status {done.status or done.input}): {line}" + (f"\n{said}" if said else ""))


def fine(command: Run, done: Done) -> bool:
    """Say whether what a program did is a success."""
    lines = done.out.splitlines()
    right = (
        (done.status, done.input) == (command.status, 0)
        and (not command.prints or any(re.search(command.prints, line) for line in lines))
        and not (command.lacks and any(re.search(command.lacks, line) for line in lines))
    )
    return right or bool(
        command.tolerates and any(re.search(command.tolerates, each) for each in done.err.splitlines())
    )


def _find(name: str) -> str:
    for folder in search_path().split(":"):
        if os.access(path := os.path.join(folder, name), os.X_OK):
            return path
    raise FileNotFoundError(2, "not found in " + search_path())


def _text(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")
