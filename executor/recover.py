"""What a killed domsnap has left, finished or undone by its journal."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from executor import journal, lock, programs
from executor.apply import Run, Tell
from executor.companion import Failed
from executor.ended import finish, has_ended
from executor.journal import Journal, Past, started
from executor.signals import Signals, caught
from schema.diagnostic import Diagnostic, Refused


def resume(path: Path, tell: Tell) -> int:
    """Finish a plan that was cut off; one that was cut off before its commit is undone first and then carried out anew.

    A revert that had ended the domain finds another one then, and is stale (3). Returns the exit status, as
    `carry_out`. Raises Locked, and Refused if it came to its end meanwhile.
    """
    with lock.held(*_who(path)), caught() as signals:
        past, notes = _reopen(path, tell, signals)
        try:
            run = Run(past.plan, notes, signals, tell, ended=_ended(past))
            if past.committed:
                return finish(run, past, tell) if run.ended else run.finish(past)
            status = run.take_back(past)
            if status != 5 or signals.came:
                return status
            signals.held = False
            notes.note("again")
            return Run(past.plan, notes, signals, tell).go()
        finally:
            notes.close()


def abort(path: Path, tell: Tell) -> int:
    """Undo a plan that was cut off; returns 0, or 6 if something is left. Raises Locked; Refused after the commit."""
    with lock.held(*_who(path)), caught() as signals:
        past, notes = _reopen(path, tell, signals)
        try:
            if past.committed:
                raise Refused([_COMMITTED])
            run = Run(past.plan, notes, signals, tell, ended=_ended(past))
            return 0 if run.take_back(past) == 5 else 6
        finally:
            notes.close()


def settle(path: Path, tell: Tell, signals: Signals) -> int:
    """Let the guest run on: undo before the commit, finish after it. For who holds the lock already."""
    past, notes = _reopen(path, tell, signals)
    try:
        run = Run(past.plan, notes, signals, tell)
        return run.finish(past) if past.committed else run.take_back(past)
    finally:
        notes.close()


def domid_of(uuid: str) -> int | None:
    """Return the number of the running domain with this UUID, None if there is none. Raises Failed."""
    done = programs.start(("xl", "list", "-v"))
    if done.status != 0:
        raise Failed(f"xl list -v: {done.err.strip() or f'exit status {done.status}'}")
    for line in done.out.splitlines():
        words = line.split()
        if uuid in words and len(words) > 1 and words[1].isdigit():
            return int(words[1])
    return None


def _ended(past: Past) -> bool:
    """Say whether the domain of a plan that was cut off has ended with all that lived in its QEMU, or the machine has
    rebooted.

    Raises Refused if the domain was started again before the commit: its disks cannot be taken away from it, and what
    it has written would be lost. Where xl does not answer nothing is known, and the guest comes first.
    """
    subject = past.plan.domains[0]
    try:
        running = domid_of(subject.uuid)
    except Failed:
        return past.rebooted
    # A revert ends the domain, and its undo begins it again.
    another = running is not None and (past.rebooted or (running != subject.domid and past.plan.verb != "revert"))
    if another and not past.committed:
        detail = f"{subject.name} was domain {subject.domid} then, and is domain {running} now"
        hint = "shut it down, then `domsnap recover --boot`" if past.rebooted else "shut it down, then abort"
        raise Refused([Diagnostic("the domain was started again since", detail, hint)])
    return past.rebooted or has_ended(past.plan, running)


def _who(path: Path) -> tuple[str, str]:
    plan = journal.read(path).plan
    return plan.domains[0].uuid, plan.id


def _reopen(path: Path, tell: Tell, signals: Signals) -> tuple[Past, Journal]:
    """Return what was done, once the program that ran last has ended: it must not act beside us."""
    past = journal.read(path)
    if not past.open:
        raise Refused([Diagnostic("this plan has come to its end", f"{path} says so", "")])
    told = False
    here = past.boot in ("", journal.boot())
    while here and past.child and past.child[1] and started(past.child[0]) == past.child[1]:
        if not told:
            tell(
                "step",
                f"process {past.child[0]}, which the one that was killed had started, still runs: waiting for its end",
            )
            told = True
        signals.wait(0.1) if not signals.held else time.sleep(0.1)
    notes = Journal(path, new=False)
    with suppress(OSError):  # a full disk does not keep anybody from undoing
        notes.note("reopened", boot=journal.boot())
    return past, notes


_COMMITTED = Diagnostic(
    "this plan cannot be undone any more",
    "it was cut off after its commit: the domain goes on with what it did",
    "finish it with `domsnap resume`",
)
