"""What becomes of a plan whose domain has ended, by itself or with the machine, with all that lived in its QEMU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from executor.apply import Run, Tell
from executor.journal import Past
from executor.monitors import nobody_listens
from planner.commands import AwaitJob, Command, Qmp, Seal, Write
from planner.commands import Run as Program
from planner.facts import record_from_json
from planner.operations.store import document
from planner.plan import Plan, monitors
from schema.read import read_json


def has_ended(plan: Plan, running: int | None) -> bool:
    """Say whether the domain of a plan has ended, and its QEMU; `running` is the number of the domain there is now,
    None if there is none. A revert ends the domain by itself."""
    return plan.verb != "revert" and running != plan.domains[0].domid and nobody_listens(monitors(plan))


def finish(run: Run, past: Past, tell: Tell) -> int:
    """Do what is left after the commit. What only the QEMU of then could do, or what was not on the disk yet when the
    machine went down, makes of the snapshot one to delete.

    Returns the exit status: 0, or 6 if something is left to do.
    """
    plan, snapshot = past.plan, past.plan.snapshot
    commands = [command for step in past.left for command in step.do]
    alive = (AwaitJob, Qmp) if plan.verb == "delete" else AwaitJob
    gone = any(isinstance(command, alive) for command in commands)
    lost = past.rebooted and any(map(_makes_durable, commands))
    if not gone and not lost:
        return run.finish(past)
    what = "cut off"
    if plan.verb != "delete":
        snapshot, published = _give_up(run)
        if plan.verb == "revert" and not gone and (status := run.finish(past, published)):
            return status
        what = f"the machine went down before all was on the disk: {snapshot} is not whole"
        if gone:
            what = "a copy ended with the QEMU that made it: the snapshot is not whole"
    run.note("end", status=5)
    tell("end", f"{what}; remove it: a spec of {plan.domains[0].name}/{snapshot} with `domsnap apply --delete`")
    return 6


def _makes_durable(command: Command) -> bool:
    """Say whether a command makes what was written while the guest stood still durable, which nothing does before."""
    return isinstance(command, Seal) or (isinstance(command, Program) and command.argv[0] == "sync")


def _give_up(run: Run) -> tuple[str, int]:
    """Write the record of a snapshot that was never whole as one that is being deleted, so that it can be. Return its
    name, and the step that would have written it."""
    step, write = next(
        (step.number, command)
        for step in run.plan.steps
        for command in step.do
        if isinstance(command, Write) and command.path.endswith("/record.json.part")
    )
    folder = Path(write.path).parent
    record = record_from_json({**read_json("record", write.text.encode(), write.path), "folder": str(folder)})
    run.performer.do_again(Write(write.path, document(replace(record, state="deleting"))))
    Path(write.path).rename(folder / "record.json")
    return record.snapshot, step
