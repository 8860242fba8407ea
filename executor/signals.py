"""Signals that wait for the command that runs: it is ended by its own means, or undone, never torn off half-way."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from executor.companion import Failed

_ASKED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
# Ctrl-\ and Ctrl-Z would leave the guest standing; a reader that goes away is no reason to stop.
_PASSED_OVER = (signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE)


@dataclass(slots=True)
class Signals:
    """The first of HUP, INT and TERM that came, 0 for none; `held` while the guest stands still after the commit.

    It is what the companion's functions take as their pipe of requests: they stop waiting when a signal has come.
    """

    came: int = 0
    held: bool = False
    pipe: tuple[int, int] = field(default_factory=lambda: os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))

    @property
    def pending(self) -> int:
        return 0 if self.held else self.came

    def wait(self, seconds: float) -> None:
        """Wait so long, but no longer than to the next signal; raises Failed if one has come."""
        if not self.pending:
            select.select([] if self.held else [self.pipe[0]], [], [], seconds)
        self.still_wanted()

    def still_wanted(self) -> None:
        """Raise Failed if a signal has come."""
        if self.pending:
            raise Failed(f"given up: interrupted by signal {self.pending}")

    def note(self, number: int, _: FrameType | None = None) -> None:
        """Take a signal in."""
        if not self.came:
            self.came = number
            os.write(self.pipe[1], b"!")


@contextmanager
def caught() -> Iterator[Signals]:
    """Catch signals for a while; how they were dealt with before comes back at the end."""
    signals = Signals()
    before = {number: signal.getsignal(number) for number in (*_ASKED, *_PASSED_OVER)}
    for number in _ASKED:
        signal.signal(number, signals.note)
    for number in _PASSED_OVER:
        signal.signal(number, lambda *_: None)  # not SIG_IGN: programs would inherit that
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for end in signals.pipe:
            os.close(end)
