"""Recovery at boot: what a power cut has left, undone or finished before any domain is started."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from executor import journal, lock
from executor.apply import Run, Tell
from executor.companion import Failed
from executor.ended import finish
from executor.journal import Past
from executor.left import unfinished
from executor.recover import domid_of
from executor.signals import caught


def recover(store: str, tell: Tell) -> int:
    """Settle every plan that was cut off when the machine went down; return 0, or 6 if one needs attention.

    Before its commit a plan is undone: the domain starts from its disks as they were, as after any power cut. After it
    what is left is done. Domains are neither started nor ended; those that run, and plans of this boot, are let alone.
    """
    settled = [_settle(path, past, tell) for path, past in unfinished(store)]
    return 0 if all(settled) else 6


def _settle(path: Path, past: Past, tell: Tell) -> bool:
    domain = past.plan.domains[0]
    name = f"{domain.name}, {past.plan.verb} {past.plan.snapshot}"
    if past.boot == journal.boot():
        tell("end", f"{name}: the machine has not rebooted since; `domsnap status` says what to do")
        return False
    try:
        running = domid_of(domain.uuid)
    except Failed as failed:
        tell("end", f"{name}: xl does not say whether the domain runs, and nothing is done: {failed}")
        return False
    if running is not None:
        tell("end", f"{name}: it runs already, as domain {running}, and nothing is done: shut it down first")
        return False
    try:
        with lock.held(domain.uuid, past.plan.id), caught() as signals:
            notes = journal.Journal(path, new=False)
            try:
                with suppress(OSError):  # a full disk does not keep anybody from undoing
                    notes.note("reopened", boot=journal.boot())
                tell("end", f"{name}: cut off when the machine went down")
                run = Run(past.plan, notes, signals, tell, ended=True)
                if not past.committed:
                    return run.take_back(past) == 5
                return finish(run, past, tell) == 0
            finally:
                notes.close()
    except lock.Locked as locked:
        tell("end", f"{name}: it is locked: {locked}")
        return False
