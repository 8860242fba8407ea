"""The one funnel through which `apply` starts programs: no shell, no input, no terminal, messages in English."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from dataclasses import dataclass

from executor.companion import Failed
from executor.signals import Signals
from planner.commands import Run

SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 120.0  # seconds that a program may take which moves no data; DOMSNAP_PATIENCE says otherwise
# These move as much data as there is. An xl that is killed while it saves leaves the guest suspended.
_LONG = {
    ("xl", "save"), ("xl", "restore"), ("qemu-img", "convert"), ("qemu-img", "rebase"), ("qemu-img", "snapshot"),
    ("cp",), ("sync",), ("sha256sum",), ("lvcreate",), ("lvconvert",), ("lvremove",), ("vhd-util",),
}  # fmt: skip
_TICK = 0.25  # seconds
_TAIL = 2000  # bytes of what a failed program said that are shown


class Hung(Failed):
    """A program did not come to its end, and was killed."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a program did: its exit status (-n: ended by signal n), what it printed and what it said."""

    status: int
    out: str
    err: str


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


def start(argv: tuple[str, ...], watch: Watch | None = None, window: int | None = None) -> Done:
    """Run a program to its end. Raises Failed if it cannot be started, Hung if it takes longer than its kind may.

    It has a session of its own: a Ctrl-C is for domsnap, and an xl that it interrupts would leave the guest suspended.
    Its output goes to memory: a daemon that it leaves behind (xl restore does) must not hold a pipe open, and the disk
    may be full.
    """
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    try:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL if window is None else window, stdout=out, stderr=err,
                env=surroundings(), start_new_session=True, executable=_find(argv[0]),
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"{argv[0]}: {error.strerror}") from None
        status = _wait(process, argv, watch or Watch())
        return Done(status, _text(out), _text(err))
    finally:
        os.close(out)
        os.close(err)


def _wait(process: subprocess.Popen[bytes], argv: tuple[str, ...], watch: Watch) -> int:
    watch.begun(process.pid)
    limit = patience()
    end = None if argv[:2] in _LONG or argv[:1] in _LONG else time.monotonic() + limit
    # Popen.wait with a time limit looks up to 50 ms apart: too seldom while a guest stands still.
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], _TICK)[0]:
            watch.tick(argv)
            if end and time.monotonic() >= end:
                process.kill()
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
            done = start(command.argv, watch, window)
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
    raise Failed(
        f"not as expected (exit status {done.status}): {' '.join(command.argv)}" + (f"\n{said}" if said else "")
    )


def fine(command: Run, done: Done) -> bool:
    """Say whether what a program did is a success."""
    lines = done.out.splitlines()
    right = (
        done.status == command.status
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
