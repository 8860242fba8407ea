"""Carries out one command of a plan."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import assert_never

from executor import compact, companion, durable, programs
from executor.companion import Failed
from executor.live import Live
from executor.monitors import Monitors
from executor.signals import Signals
from executor.stream import BrokenImage
from planner.commands import AwaitJob, Capture, Command, Compact, Qmp, Release, Rename, Run, Seal, Write, to_json

# What QEMU says of a request that was carried out before: a node or job that is there, a node, tag or job that is gone,
# a job that has done what it is told to do.
_DONE = (
    "Duplicate nodes|already in use|Failed to find node|does not exist|Job not found|cannot accept command verb"
    "|not found in the graph"
)


class Performer:
    """Carries out commands; it holds the connections to the monitors. `watch` is told of each program."""

    def __init__(self, signals: Signals, live: Live, watch: programs.Watch | None = None) -> None:
        self.signals, self.live, self.watch = signals, live, watch
        self.monitors = Monitors()

    def close(self) -> None:
        self.live.close()
        self.monitors.close()

    def do(self, command: Command) -> None:
        """Carry a command out; raises Failed with what went wrong, in one line or a few."""
        try:
            self._do(command)
        except (OSError, BrokenImage) as error:
            raise Failed(str(error)) from None

    def do_again(self, command: Command) -> None:
        """Carry out a command that may have been done, or begun, by a process that was killed; raises Failed.

        What is done stays done; a file half written, which no other program knows yet, is written anew.
        """
        match command:
            case Rename(source=source, target=target) if not os.path.lexists(source) and os.path.lexists(target):
                return
            case Write(path=path) | Seal(digest=path) if path and os.path.lexists(path):
                os.unlink(path)
            case Compact():
                compact.clear(command)
            case AwaitJob():
                command = replace(command, optional=True)
            case Qmp(tolerates=tolerates):
                command = replace(command, tolerates="|".join(filter(None, (tolerates, _DONE))))
            case _:
                pass
        self.do(command)

    def _do(self, command: Command) -> None:
        match command:
            case Run():
                programs.run(command, self.signals, self.watch, self.live.window)
            case Qmp(monitor=monitor):
                companion.qmp(self.monitors.to(monitor), to_json(command)["qmp"], self.signals)
            case AwaitJob(monitor=monitor):
                companion.await_job(self.monitors.to(monitor), to_json(command)["await-job"], self.signals)
            case Seal():
                companion.seal(to_json(command)["seal"], self.signals)
            case Compact():
                compact.compact(command, self.signals, self.watch or programs.Watch())
            case Write(path=path, text=text):
                durable.write(path, text)
            case Rename(source=source, target=target):
                durable.rename(source, target)
            case Capture():
                self.live.capture(command, self.signals)
            case Release():
                self.live.release(command)
            case _:
                assert_never(command)


class AfterEnd(Performer):
    """Carries out what of a plan still has a meaning once its domain has ended, or the whole machine has.

    The domain, its QEMU with all nodes and jobs, and its xl monitor have ended; a process number of then is another's.
    """

    def _do(self, command: Command) -> None:
        match command:
            case AwaitJob() | Capture() | Release():
                return
            case Compact():  # nothing that domains should wait for
                compact.settle(command)
            case Run() if command.argv[0] in ("xl", "kill"):
                return
            case Run() if any(word.startswith("/proc/") for word in (*command.argv, *command.when)):
                return
            case Qmp(offline=argv, tolerates=tolerates):
                if argv:
                    programs.run(Run(argv, tolerates=tolerates), self.signals, self.watch)
            case _:
                super()._do(command)
