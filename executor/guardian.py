"""A second process that lets the guest run on if domsnap is killed while it stands still."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from executor.apply import Kind, Tell
from executor.recover import settle
from executor.signals import Signals

_BYE = b"."
_DEAF = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE)


@contextmanager
def watching(journal: Path, lock: Path, tell: Tell) -> Iterator[None]:
    """Have a guardian while this lasts.

    If this process ends in it without a word, the guardian undoes the plan of the journal, or finishes it after its
    commit. It has the lock too, as a child of who took it, so that nobody comes in between.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(write)
        _guard(read, journal, lock, tell)
    os.close(read)
    try:
        yield
        with suppress(BrokenPipeError):  # it was killed
            os.write(write, _BYE)
    finally:
        os.close(write)
        os.waitpid(child, 0)


def _guard(pipe: int, journal: Path, lock: Path, tell: Tell) -> None:
    """Wait for the end of the pipe, act if no word came before it, and end this process."""
    status = 1
    try:
        os.setsid()  # a Ctrl-C is for the other one
        for number in _DEAF:
            signal.signal(number, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        if os.read(pipe, 1) == _BYE:
            os._exit(0)
        with suppress(OSError):
            lock.write_text(f"process {os.getpid()}, the guardian of one that was killed, ends its plan\n")

        def said(kind: Kind, text: str) -> None:
            with suppress(OSError):  # nobody may be there any more to read it
                tell(kind, text)

        said("end", "domsnap has ended without a word; its guardian lets the guest run on")
        for number in _DEAF:  # programs are not to inherit the deafness
            signal.signal(number, lambda *_: None)
        signals = Signals(held=True)
        status = settle(journal, said, signals)
    finally:
        os._exit(status)
