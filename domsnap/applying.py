"""What `apply` does around a plan: shows it, asks, holds it against the host of now, and says how it goes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from domsnap.door import Ended, colors, complain, emit
from domsnap.terminal import safe
from schema.diagnostic import Diagnostic, Refused

if TYPE_CHECKING:
    from executor.apply import Kind, Tell
    from planner.facts import Facts
    from planner.plan import Plan

_INDENT = {"undo": "  ", "trouble": "  ", "hand": "    "}
_MOST = 8  # changed facts that are named
_STYLE = {"trouble": "31", "end": "1", "undo": "33"}


def apply(
    plan: Plan, *, yes: bool, as_json: bool, untested: bool, fresh: Callable[[], Facts] | None, show: Callable[[], None]
) -> int:
    """Carry a plan out and return the exit status.

    fresh: observes the host anew, for a plan that was saved. show: shows the plan. Raises Refused before anything is
    touched; Ended with 3 for a stale or applied plan, with 4 if the domain is locked.
    """
    if plan.offline:
        raise _refuse("this plan was made offline", "nothing was observed", "make it on the host, without --offline")
    if plan.untested and not untested:
        said = f"{', '.join(plan.untested)}: never run on a real host"
        raise _refuse("this plan is untested", said, "allow it with --untested")
    _once(plan)
    if fresh:
        hold(plan, fresh())
    show()
    if not plan.steps:
        say(as_json)("end", f"nothing to do: {plan.note}" if plan.note else "nothing to do")
        return 0
    if not yes:
        ask(plan)
    return _carry_out(plan, say(as_json))


def _carry_out(plan: Plan, tell: Tell) -> int:
    from executor.carry_out import carry_out
    from executor.lock import Locked

    try:
        status = carry_out(plan, tell)
    except Locked as locked:
        raise Ended(4, f"domsnap: {plan.domains[0].name} is locked: {locked}") from None
    except FileExistsError:  # by somebody else, just now
        _once(plan)
        raise
    except OSError as error:
        raise _refuse("the store cannot be written to", f"{error.filename}: {error.strerror}", "") from None
    if status == 0:
        tell("end", "done")
    return status


def _once(plan: Plan) -> None:
    """Raise Ended(3) for a plan that was carried out before, Refused for a journal that cannot be read."""
    from executor.journal import applied

    try:
        since = applied(plan)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refuse("a journal cannot be read", str(error), "") from None
    if since:
        hint = f"plan again; `domsnap status {plan.domains[0].name}` says whether it was cut off"
        raise Ended(
            3, f"domsnap: this plan was applied already, at {since}; a plan is carried out once\n  hint: {hint}"
        )


def observed_for(plan: Plan) -> Callable[[], Facts]:
    """Return what observes the host anew for a plan; it raises Refused."""

    def observe() -> Facts:
        from domsnap import observing

        return observing.facts({plan.domains[0].name}, {plan.store})[0]

    return observe


def hold(plan: Plan, facts: Facts) -> None:
    """Raise Ended(3), naming what has changed with its old and new value, unless the plan still rests on facts."""
    from planner.assume import assumptions, changes

    name = plan.domains[0].name
    domain = facts.domain(name)
    if domain is None:
        raise Ended(3, f"domsnap: the plan is stale: {facts.host.name} has no domain {name} any more")
    changed = changes(dict(plan.assumes or {}), json.loads(json.dumps(assumptions(facts, domain))))
    if changed:
        lines = [f"  {what}: was {_shown(old)}, is {_shown(new)}" for what, old, new in changed[:_MOST]]
        if len(changed) > _MOST:
            lines.append(f"  and {len(changed) - _MOST} more")
        raise Ended(
            3, "\n".join(["domsnap: the plan is stale; since it was made has changed:", *lines, "  hint: plan again"])
        )


def ask(plan: Plan) -> None:
    """Ask on the terminal; raises Ended if the answer is not yes, Refused if there is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise _refuse("there is no terminal to ask on", "apply asks before it acts", "give --yes")
    name = safe(plan.domains[0].name)
    stops = "; its guest stops" if plan.stops else ""
    complain(f"\nCarry this out on {name}{stops}? Only `yes` is taken as yes.")
    try:
        answer = input("> ").strip()
    except EOFError:
        answer = ""
    if answer != "yes":
        raise Ended(1, "domsnap: not carried out; nothing was changed")


def say(as_json: bool) -> Tell:
    """Return what is told of a run: lines on standard error, or one JSON object a line on standard output."""
    passing = sys.stderr is not None and sys.stderr.isatty()

    def lines(kind: Kind, text: str) -> None:
        if kind == "progress":
            if passing:  # in its place on the line; where lines stay there would be far too many
                sys.stderr.write(f"\r\x1b[K  {safe(text)}"[: shutil.get_terminal_size().columns + 3])
                sys.stderr.flush()
            return
        if passing:
            sys.stderr.write("\r\x1b[K")
        style = _STYLE.get(kind, "") if colors(sys.stderr) else ""
        for line in text.splitlines():
            shown = _INDENT.get(kind, "") + safe(line)
            complain(f"\x1b[{style}m{shown}\x1b[0m" if style else shown)

    def events(kind: Kind, text: str) -> None:
        emit((json.dumps({"version": 1, "event": kind, "text": text}) + "\n").encode())

    return events if as_json else lines


def _shown(value: object) -> str:
    return "not there" if value is None else safe(json.dumps(value, ensure_ascii=False))


def _refuse(summary: str, detail: str, hint: str) -> Refused:
    return Refused([Diagnostic(summary, detail, hint)])
