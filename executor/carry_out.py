"""The whole of `apply` on a host: the lock, the journal, the signals, and between them the plan."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from executor import journal, lock
from executor.apply import Run, Tell
from executor.guardian import watching
from executor.signals import caught
from planner.plan import Plan
from schema.diagnostic import Diagnostic, Refused


def carry_out(plan: Plan, tell: Tell, *, guard: bool = True) -> int:
    """Carry a plan out and return the exit status: 0 done; 1 a check failed; 3 stale; 5 failed and undone; 6 attention
    needed; 128+n ended by signal n and undone. `tell` is told each thing worth saying. guard: have a guardian.

    Raises Refused for a plan that cannot be carried out, Applied for one that was, lock.Locked while another runs.
    """
    if not plan.steps:
        return 0
    subject = plan.domains[0]
    folder = Path(plan.store) / subject.name
    os.umask(0o077)
    with lock.held(subject.uuid, plan.id) as held, caught() as signals:
        trust(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        notes = journal.begin(plan, folder)
        try:
            with watching(notes.path, held, tell) if guard else nullcontext():
                return Run(plan, notes, signals, tell).go()
        finally:
            notes.close()


def trust(folder: Path) -> None:
    """Refuse a store that others can write to or redirect: a memory image holds all secrets of a guest.

    Raises Refused for a symbolic link or a folder on the way that is not root's or ours, or that others may write to.
    A folder like /tmp, where only the owner may rename (sticky), is fine above it.
    """
    for place in reversed((folder, *folder.parents)):
        try:
            about = place.lstat()
        except FileNotFoundError:
            return
        mine = about.st_uid in (0, os.geteuid())
        sticky = bool(about.st_mode & 0o1000)
        if os.path.islink(place) and not mine:
            raise Refused([_untrusted(place, "is a symbolic link of another user")])
        if os.path.islink(place):
            trust(Path(os.path.realpath(place)))
        elif not mine:
            raise Refused([_untrusted(place, "belongs to another user")])
        elif about.st_mode & 0o022 and (not sticky or place == folder):
            raise Refused([_untrusted(place, "can be written to by others")])


def _untrusted(place: Path, what: str) -> Diagnostic:
    return Diagnostic("the store cannot be trusted", f"{place} {what}", "use a store that only root can write to")
