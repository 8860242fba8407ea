"""Recovery at boot: what a power cut has left, undone or finished before any domain is started."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from executor import journal, lock
from executor.apply import Run, Tell
from executor.companion import Failed
from executor.journal import Past
from executor.recover import domid_of, unfinished
from executor.signals import caught
from planner.commands import AwaitJob, Qmp, Write
from planner.facts import record_from_json
from planner.operations.store import document
from schema.read import read_json


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
                run = Run(past.plan, notes, signals, tell, rebooted=True)
                if not past.committed:
                    return run.take_back(past) == 5
                return _finish(run, past, tell)
            finally:
                notes.close()
    except lock.Locked as locked:
        tell("end", f"{name}: it is locked: {locked}")
        return False


def _finish(run: Run, past: Past, tell: Tell) -> bool:
    """Do what is left after the commit; what only the QEMU of then could do makes of the snapshot one to delete."""
    plan = past.plan
    left = [step for step in plan.steps if step.number not in past.done]
    alive = (AwaitJob, Qmp) if plan.verb == "delete" else AwaitJob
    if not any(isinstance(command, alive) for step in left for command in step.do):
        return run.finish(past) == 0
    if plan.verb == "create":
        _give_up(run)
    run.note("end", status=5)
    again = f"a spec of {plan.domains[0].name}/{plan.snapshot} with `domsnap apply --delete`"
    what = "a copy ended with the QEMU that made it: the snapshot is not whole" if plan.verb == "create" else "cut off"
    tell("end", f"{what}; remove it: {again}")
    return False


def _give_up(run: Run) -> None:
    """Write the record of a snapshot that was never whole as one that is being deleted, so that it can be."""
    writes = [command for step in run.plan.steps for command in step.do if isinstance(command, Write)]
    write = next(each for each in writes if each.path.endswith("/record.json.part"))
    folder = Path(write.path).parent
    record = record_from_json({**read_json("record", write.text.encode(), write.path), "folder": str(folder)})
    run.performer.do_again(Write(write.path, document(replace(record, state="deleting"))))
    Path(write.path).rename(folder / "record.json")
