"""A plan as a Mermaid sequence diagram: who does what, and the time in which the guest stands still."""

from __future__ import annotations

from collections.abc import Iterator

from domsnap.course import course, running
from domsnap.terminal import safe
from domsnap.told import SYMBOLS, how_long, pause, tally, title, undone
from planner.commands import AwaitJob, Capture, Command, Compact, Qmp, Release, Rename, Run, Seal, Write
from planner.plan import Plan, Step

# What Mermaid's grammar gives no meaning to anywhere in a label; all else is written as an entity.
_PLAIN = frozenset(" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./,():_+='!?~-")
_PARTNERS = {"xl": "xl", "qemu": "QEMU", "storage": "files and volumes"}
_XL = ("xl", "kill")


def mermaid(plan: Plan) -> str:
    """Return the diagram's text, with a last newline. A guest has its bar while it runs, and the box is its stop."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield "sequenceDiagram"
    yield f"    title Plan {plan.id[:8]}, {_label(title(plan))}"
    guests = {domain.name: f"guest{number}" for number, domain in enumerate(plan.domains, 1)}
    for domain in plan.domains:
        yield f"    participant {guests[domain.name]} as guest {_label(domain.name)}"
    partners = {_partner(step) for step in plan.steps}
    yield "    participant domsnap"
    for partner, name in _PARTNERS.items():
        if partner in partners:
            yield f"    participant {partner} as {name}"
    if not plan.steps:
        yield f"    Note over domsnap: {_label(f'Nothing to do: {plan.note}')}"
        return
    for domain in plan.domains:
        if domain.state == "running":
            yield f"    activate {guests[domain.name]}"
    yield from _course(plan, guests)
    # From the first participant to the last: a note over one alone would push the others apart.
    last = next((name for name in reversed(_PARTNERS) if name in partners), "domsnap")
    first = next(iter(guests.values()), "domsnap")
    yield f"    Note over {first},{last}: {'<br/>'.join(map(_label, _summary(plan)))}"


def _course(plan: Plan, guests: dict[str, str]) -> Iterator[str]:
    """Yield the messages, with one box around all the time in which any guest stands still."""
    stopped: set[str] = set()
    for moment in course(plan):
        step, guest = moment.step, guests.get(moment.step.domain, "domsnap")
        if moment.stops and not stopped:
            yield "    rect rgba(200, 60, 60, 0.15)"
        arrow = "-->>" if step.effect == "check" else "->>"
        yield f"    domsnap{arrow}{_partner(step)}: {_label(f'{step.number} {SYMBOLS[step.effect]} {step.title}')}"
        if moment.stops:
            stopped.add(step.domain)
            long = how_long(plan, step.domain)
            yield f"    deactivate {guest}"
            yield f"    Note over {guest}: {_label(f'stopped for {long}' if long else 'stopped')}"
        elif moment.goes:
            yield f"    activate {guest}"
            yield f"    Note over {guest}: {'starts' if moment.before == 'off' else 'runs again'}"
            if stopped == {step.domain}:
                yield "    end"
            stopped.discard(step.domain)
    if stopped:
        yield "    end"
    # Mermaid draws only bars that have an end.
    yield from (f"    deactivate {guests[name]}" for name in running(plan) if name in guests)


def _partner(step: Step) -> str:
    """Return who does most of a step: the partner of the first command that is none of looking on."""
    return next((_who(command) for command in (*step.do, *step.checks)), "storage")


def _who(command: Command) -> str:
    match command:
        case Qmp() | AwaitJob():
            return "qemu"
        case Capture() | Release():
            return "xl"
        case Run(argv):
            return "xl" if argv[0] in _XL else "storage"
        case Seal() | Compact() | Write() | Rename():
            return "storage"


def _summary(plan: Plan) -> Iterator[str]:
    if plan.offline:
        yield "OFFLINE: no host was observed."
    counts = ", ".join(f"{count} to {what}" for what, count in tally(plan).items())
    yield f"{counts}; {pause(plan)}."
    yield from (f"DESTROYS {each}" for each in plan.destroys)
    if not plan.destroys:
        yield "Destroys nothing."
    yield undone(plan)


def _label(text: str) -> str:
    """Return a text with all that Mermaid could take for its own written as entities (`#59;`)."""
    return "".join(each if each in _PLAIN else f"#{ord(each)};" for each in safe(text))
