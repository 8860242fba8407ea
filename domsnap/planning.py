"""Turns what the command line names - a spec, with facts, offline or observed now, or a saved plan - into plans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from domsnap import reading
from schema.diagnostic import Diagnostic, Refused

if TYPE_CHECKING:
    from planner.facts import Facts
    from planner.plan import Plan, Verb
    from schema.spec import Spec


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be planned; `document` is the number (from 1) or the name of one snapshot in the file, "" for all."""

    file: str
    verb: Verb = "create"
    facts: str = ""
    offline: bool = False
    document: str = ""
    discard_current: bool = False
    allow_drift: bool = False

    @property
    def options(self) -> list[str]:
        """The options given that say how to plan; a saved plan takes none of them."""
        said = {
            f"--{self.verb}": self.verb != "create",
            "--facts": bool(self.facts),
            "--offline": self.offline,
            "--document": bool(self.document),
            "--discard-current": self.discard_current,
            "--allow-drift": self.allow_drift,
        }
        return [option for option, given in said.items() if given]


def plans(request: Request) -> list[Plan]:
    """Return the plans for a request, one for each snapshot, or the saved plan that its file holds. Raises Refused."""
    data = reading.contents(request.file, reading.JSON)
    name = reading.shown(request.file)
    if _is_plan(data):
        if request.options:
            given = ", ".join(request.options)
            raise _refuse("a saved plan is taken as it is", f"{name} holds one; not with it: {given}")
        return [saved(data, name)]

    from schema.read import read_specs

    return list(_compile(_chosen(read_specs(data[: reading.SPEC], name), request, name), request))


def is_saved(request: Request) -> bool:
    """Say whether the file of a request holds a saved plan. Raises Refused if it cannot be read."""
    return request.file != "-" and _is_plan(reading.contents(request.file, reading.JSON))


def saved(data: bytes, name: str) -> Plan:
    """Return the plan of a saved file. Raises Refused if it is not one, or not as it was saved."""
    from planner.plan import plan_from_json
    from schema.read import read_json

    document = read_json("plan", data, name)
    try:
        return plan_from_json(document)
    except (ValueError, TypeError) as error:
        raise _refuse("this plan was changed after it was saved", f"{name}: {error}", "make the plan anew") from None


def _compile(specs: tuple[Spec, ...], request: Request) -> Iterator[Plan]:
    """Compile each; what is wrong with any of them is said together."""
    from planner.compile import compile_plan, offline_facts

    known = None if request.offline else facts(request.facts) if request.facts else observed(specs)
    refusals: list[Diagnostic] = []
    for spec in specs:
        try:
            plan = compile_plan(
                request.verb,
                spec,
                known or offline_facts(spec),
                discard_current=request.discard_current,
                allow_drift=request.allow_drift,
                offline=request.offline,
            )
        except Refused as refused:
            refusals.extend(refused.diagnostics)
        else:
            yield plan
    if refusals:
        raise Refused(refusals)


def observed(specs: tuple[Spec, ...]) -> Facts:
    """Return the facts of this host as they are now, with what they lack said on standard error. Raises Refused."""
    from domsnap import observing
    from domsnap.door import report

    known, remarks = observing.facts({spec.domain for spec in specs}, {spec.store for spec in specs})
    report(remarks, as_json=False)
    return known


def facts(file: str) -> Facts:
    """Return the facts of a file. Raises Refused."""
    from planner.facts import facts_from_json
    from schema.read import read_json

    name = reading.shown(file)
    document = read_json("facts", reading.contents(file, reading.JSON), name)
    try:
        return facts_from_json(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # of large files only a sample was checked
        raise _refuse("these are not facts", f"{name}: {error}", "see `domsnap schema facts`") from None


def _chosen(specs: tuple[Spec, ...], request: Request, name: str) -> tuple[Spec, ...]:
    """Return the snapshots that `--document` chooses. A snapshot's name is never all digits: a number is a number."""
    wanted = request.document
    if not wanted:
        return specs
    if wanted.isascii() and wanted.isdigit():
        found = specs[int(wanted) - 1 : int(wanted)] if int(wanted) else ()
    else:
        found = tuple(spec for spec in specs if wanted in (spec.snapshot, f"{spec.domain}/{spec.snapshot}"))
    if len(found) == 1:
        return found
    there = ", ".join(f"{number} {spec.domain}/{spec.snapshot}" for number, spec in enumerate(specs, 1))
    if found:
        detail = f"{name}: {wanted!r} is not one only of {there}"
        raise _refuse("more than one snapshot has this name", detail, "give its number")
    raise _refuse("no such snapshot in the file", f"{name}: {wanted!r} is none of {there}")


def _is_plan(data: bytes) -> bool:
    """Say whether a file holds a plan, whole or broken: JSON with an id, which no spec has."""
    if not data.lstrip().startswith(b"{"):
        return False
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        return b'"steps"' in data
    return isinstance(document, dict) and "id" in document


def _refuse(summary: str, detail: str, hint: str = "") -> Refused:
    return Refused([Diagnostic(summary, detail, hint)])
