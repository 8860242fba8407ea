"""What becomes of a plan whose domain has ended, by itself or with the machine, with all that lived in its QEMU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from executor.apply import Run, Tell
from executor.journal import Past
from executor.monitors import nobody_listens
from planner.commands import AwaitJob, Qmp, Write
from planner.facts import record_from_json
from planner.operations.store import document
from planner.plan import Plan, monitors
from schema.read import read_json


def has_ended(plan: Plan, running: int | None) -> bool:
    """Say whether the domain of a plan has ended, and its QEMU; `running` is the number of the domain there is now,
    None if there is none. A revert ends the domain by itself."""
    return plan.verb != "revert" and running != plan.domains[0].domid and nobody_listens(monitors(plan))


def finish(run: Run, past: Past, tell: Tell) -> int:
    """Do what is left after the commit; what only the QEMU of then could do makes of the snapshot one to delete.

    Returns the exit status: 0, or 6 if something is left to do.
    """
    plan = past.plan
    left = [step for step in plan.steps if step.number not in past.done]
    alive = (AwaitJob, Qmp) if plan.verb == "delete" else AwaitJob
    if not any(isinstance(command, alive) for step in left for command in step.do):
        return run.finish(past)
    if plan.verb == "create":
        _give_up(run)
    run.note("end", status=5)
    again = f"a spec of {plan.domains[0].name}/{plan.snapshot} with `domsnap apply --delete`"
    what = "a copy ended with the QEMU that made it: the snapshot is not whole" if plan.verb == "create" else "cut off"
    tell("end", f"{what}; remove it: {again}")
    return 6


def _give_up(run: Run) -> None:
    """Write the record of a snapshot that was never whole as one that is being deleted, so that it can be."""
    writes = [command for step in run.plan.steps for command in step.do if isinstance(command, Write)]
    write = next(each for each in writes if each.path.endswith("/record.json.part"))
    folder = Path(write.path).parent
    record = record_from_json({**read_json("record", write.text.encode(), write.path), "folder": str(folder)})
    run.performer.do_again(Write(write.path, document(replace(record, state="deleting"))))
    Path(write.path).rename(folder / "record.json")
