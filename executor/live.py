"""The live capture of a run: one that is at work, or one that a killed run has left behind."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from executor import lock, programs, receive
from executor.companion import Failed
from executor.journal import started
from executor.migrate import Migration, NotCaptured, let_run
from executor.signals import Signals
from planner.commands import Capture, Release, to_json


class Live:
    """At most one capture, of the domain with this UUID.

    left: pid and start time of the xl and the receiver of a run that was killed.
    """

    def __init__(self, uuid: str, watch: programs.Watch, left: Iterable[tuple[int, int]] = ()) -> None:
        self.folder = Path(os.environ.get("DOMSNAP_RUN", lock.RUN), f"{uuid}.live")
        self.watch, self.left = watch, list(left)
        self.migration: Migration | None = None

    @property
    def window(self) -> int | None:
        """The answering pipe while it holds the guest, None otherwise: for whatever works on a disk meanwhile."""
        return self.migration.answer if self.migration and self.migration.answer >= 0 else None

    def capture(self, command: Capture, signals: Signals) -> None:
        """Come back when the memory is written and the guest stands still; raises Failed."""
        receiver = [sys.executable, "-I", str(Path(receive.__file__))]
        try:
            self.migration = Migration(
                to_json(command)["capture"], str(self.folder), receiver, programs.surroundings(), self.watch.captured
            )
            self.migration.follow(signals)
        except NotCaptured as error:
            raise Failed(str(error)) from None

    def release(self, command: Release) -> None:
        """Let the guest go on, whoever has captured it, and see to it that xl has; raises Failed."""
        try:
            if self.migration:
                fine = self.migration.release(programs.patience())
                self.close()
            else:
                fine = not self.left
                self._end()
            if not fine:
                let_run(command.domid, _run)
        except NotCaptured as error:
            raise Failed(str(error)) from None

    def _end(self) -> None:
        """End the receiver that a killed run has left, and wait for its xl; what holds the answering pipe is waited for
        by that."""
        for pid, since in self.left[1:]:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                if started(pid) == since:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                os.close(process)
        for pid, since in self.left[:1]:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                gone = started(pid) != since or select.select([process], [], [], programs.patience())[0]
                os.close(process)
                if not gone:
                    raise NotCaptured(f"xl migrate, process {pid}, has not ended after {programs.patience():g} seconds")
        self.left = []

    def close(self) -> None:
        if self.migration:
            self.migration.close()
            self.migration = None


def _run(argv: tuple[str, ...]) -> tuple[int, str]:
    done = programs.start(argv)
    return done.status, done.out + done.err
