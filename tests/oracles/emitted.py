"""Every command that any plan of the tests, any example spec or any operation class emits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from planner.commands import AwaitJob, Command, Qmp, Run
from planner.plan import plan_from_json
from schema.read import read_json
from tests.planner.examples import examples
from tests.planner.scenarios import plans
from tests.test_specs import EXAMPLES
from tests.test_specs import plans as plans_of_spec

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def emitted() -> tuple[tuple[str, Command], ...]:
    """Return (where it was met first, command), each different command once."""
    found: dict[str, tuple[str, Command]] = {}
    for where, command in _all():
        found.setdefault(repr(command), (where, command))
    return tuple(found.values())


def _all() -> Iterator[tuple[str, Command]]:
    for operation in examples():
        for part in (operation.checks, operation.do, operation.after, operation.undo):
            yield from ((type(operation).__name__, command) for command in part())
    golden = (
        (path.parent.name, plan_from_json(read_json("plan", path.read_bytes(), path.name)))
        for path in sorted(GOLDEN.glob("*/plan.json"))
    )
    of_specs = ((path.name, plan) for path in EXAMPLES for plan in plans_of_spec(path))
    for where, plan in (*plans(), *golden, *of_specs):
        for step in plan.steps:
            commands = (*step.checks, *step.do, *step.after, *step.undo)
            yield from ((f"{where}, step {step.number}: {step.title}", command) for command in commands)


def programs() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (where, argv) of every program, guards included."""
    for where, command in emitted():
        if isinstance(command, Run):
            yield from ((where, argv) for argv in (command.argv, command.when, command.unless, command.input) if argv)


def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (where, command, arguments) of every QMP request, with those that waiting for a job takes."""
    for where, command in emitted():
        match command:
            case Qmp():
                yield where, command.execute, dict(command.arguments)
                if command.when:
                    yield where, command.when[0], {}
            case AwaitJob():
                yield where, "query-jobs", {}
                yield where, "job-dismiss", {"id": command.job}
                if command.complete:
                    yield where, "job-complete", {"id": command.job}
