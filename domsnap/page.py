"""A plan as one self-contained HTML page, for people who decide and do not type: no script, no network, no fonts."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from domsnap.course import Moment, course
from domsnap.shown import shown
from domsnap.terminal import safe
from domsnap.timeline import timeline
from domsnap.told import HELD, SYMBOLS, how_long, pause, place, source_file, tally, title, undo_words, undone
from domsnap.units import size
from planner.plan import Plan, Step

_KINDS = {"checks": "Check first", "do": "Do", "after": "Check after", "undo": "Undo"}
_EFFECTS = {
    "check": "checks", "create": "creates", "change": "changes", "destroy": "destroys", "stop": "guest stops",
    "go": "guest runs",
}  # fmt: skip


def page(plan: Plan) -> str:
    """Return the page. Everything that comes from the plan is escaped, and what does not simply show is spelt out."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    environment.filters["size"] = size
    template = environment.from_string(files("domsnap").joinpath("templates/page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        plan=plan,
        title=_capital(title(plan)),
        story=list(_story(plan)),
        pause=_capital(pause(plan)),
        short=_capital(pause(plan).partition(" ")[2]),
        long=how_long(plan),
        stops=any(moment.stops for moment in course(plan)),
        undone=undone(plan),
        counts=tally(plan),
        picture=timeline(plan) if plan.steps else None,
        phases=[(name, list(moments)) for name, moments in groupby(course(plan), key=lambda each: each.step.phase)],
        symbols=SYMBOLS,
        effects=_EFFECTS,
        commands=_commands,
        place=place,
        held=HELD[plan.verb],
        undo=lambda moment: ", ".join(undo_words(plan, moment.step)),
        heading=_heading,
        spec=source_file(plan),
    )


def _printable(value: Any) -> Any:
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _story(plan: Plan) -> Iterator[str]:
    """Yield the plan in plain sentences."""
    names = " and ".join(domain.name for domain in plan.domains)
    machine = (
        f"the virtual machine{'s' if len(plan.domains) > 1 else ''} {names}{f' on {plan.host}' if plan.host else ''}"
    )
    if not plan.steps:
        yield f"There is nothing to do{f': {plan.note}' if plan.note else ''}."
        return
    match plan.verb:
        case "create":
            yield f"This plan takes a snapshot of {machine}: {_disks(plan)}, all at one instant."
        case "revert":
            yield f"This plan brings {machine} back to the snapshot {plan.snapshot}: {_disks(plan)}, as they were then."
        case "delete":
            yield f"This plan deletes the snapshot {plan.snapshot} of {machine}. The machine itself stays as it is."
    yield _capital(_told_pause(plan))
    if plan.destroys:
        yield "It destroys data; what is lost is listed below."
    else:
        yield "It destroys nothing."
    if plan.note:
        yield f"{_capital(plan.note)}."
    yield undone(plan)


def _disks(plan: Plan) -> str:
    whose = "its" if len(plan.domains) == 1 else "their"
    held = sum(row.method != "exclude" for row in plan.disks)
    if not plan.disks:
        return f"{whose} memory and {whose} disks"
    if held < len(plan.disks):
        return f"{whose} memory and {held} of {whose} {len(plan.disks)} disks"
    return f"{whose} memory and " + (f"all {whose} {held} disks" if held > 1 else f"{whose} disk")


def _told_pause(plan: Plan) -> str:
    moments = list(course(plan))
    stops, long = sum(moment.stops for moment in moments), how_long(plan)
    if stops == 1:
        past = "afterwards it runs on from the snapshot" if plan.verb == "revert" else "before and after that it runs"
        return f"The guest stands still once{f', for about {long}' if long else ''}; {past}."
    if not stops and any(moment.goes for moment in moments):
        return (
            f"The guest does not run now; at the end it runs{' on from the snapshot' if plan.verb == 'revert' else ''}."
        )
    return f"{'The ' if len(plan.domains) == 1 else ''}{pause(plan)}."


def _heading(moments: list[Moment]) -> str:
    """Return what the guests do during a phase, as far as it is the same throughout."""
    if all(moment.stands for moment in moments):
        return "guest stopped"
    states = {state for moment in moments for state in (moment.before, moment.after)}
    return f"guest {states.pop()}" if states in ({"runs"}, {"off"}) else ""


def _commands(step: Step) -> list[tuple[str, str]]:
    """Return the step's commands as (heading, lines)."""
    said = ((_KINDS[kind], getattr(step, kind)) for kind in _KINDS)
    return [(name, "\n".join(shown(command) for command in commands)) for name, commands in said if commands]
