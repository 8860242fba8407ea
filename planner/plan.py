"""The plan: steps of commands, what they need, risk and destroy, as one canonical JSON document."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from planner.commands import AwaitJob, Command, Qmp, canonical, from_json, to_json
from planner.operation import Effect

VERSION = 1
Verb = Literal["create", "revert", "delete"]
Phase = Literal["prepare", "freeze", "thaw", "finish"]
UndoWhen = Literal["held", "thaw", "free"]
PHASES: tuple[Phase, ...] = ("prepare", "freeze", "thaw", "finish")


@dataclass(frozen=True, slots=True)
class Step:
    """An operation lowered to commands.

    undo_when: `held` needs the guest stopped still, `thaw` lets it run again, `free` does not care: so the guest is let
    go as soon as may be.
    undo_needs: numbers of the steps whose undo, where armed, must have worked before this one's is tried.
    commit: once this step is done, nothing is undone any more.
    """

    number: int
    domain: str
    title: str
    why: str
    subject: str
    effect: Effect
    phase: Phase
    do: tuple[Command, ...]
    checks: tuple[Command, ...] = ()
    after: tuple[Command, ...] = ()
    undo: tuple[Command, ...] = ()
    undo_when: UndoWhen = "free"
    undo_needs: tuple[int, ...] = ()
    commit: bool = False


@dataclass(frozen=True, slots=True)
class DiskRow:
    """One row of the plan's table of disks; sizes in bytes; `why` names the facts that chose method and tool."""

    domain: str
    vdev: str
    backend: str
    format: str
    path: str
    capacity: int
    method: str
    why: str
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes that a filesystem (`place` is its mount point) or a volume group needs, and has; `free` -1 if not known."""

    place: str
    kind: Literal["filesystem", "volume group", "thin pool", "memory"]
    needs: int
    free: int
    what: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning, with the place in the spec that it speaks of ("" if none) as file:line:column."""

    text: str
    position: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """How long a domain's guest stands still, in milliseconds: a guess from `low` to `high`, and what it rests on."""

    domain: str
    low: int
    high: int
    basis: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A domain that the plan acts on. Memory in bytes; `domid` None when it is off."""

    name: str
    uuid: str
    type: str
    state: str
    memory: int
    domid: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One verb on one snapshot. An empty list of steps means that there is nothing to do, and `note` says why.

    assumes: the facts that the plan rests on, as path -> value; apply and script refuse when one has changed.
    untested: methods in it that were never run on a real host.
    """

    verb: Verb
    snapshot: str
    domains: tuple[Subject, ...]
    host: str
    store: str
    steps: tuple[Step, ...]
    description: str = ""
    spec: str = ""
    source: str = ""
    observed: str = ""
    offline: bool = False
    disks: tuple[DiskRow, ...] = ()
    space: tuple[Space, ...] = ()
    stops: tuple[Stop, ...] = ()
    destroys: tuple[str, ...] = ()
    warnings: tuple[Notice, ...] = ()
    assumes: Mapping[str, Any] | None = None
    untested: tuple[str, ...] = ()
    note: str = ""

    @property
    def id(self) -> str:
        """The SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
        return hashlib.sha256(canonical(self._body()).encode()).hexdigest()

    @property
    def commit(self) -> int:
        """The number of the last step that is still undone when a later one fails; 0 if nothing ever is."""
        return next((step.number for step in self.steps if step.commit), 0)

    def _body(self) -> dict[str, Any]:
        return {"version": VERSION, **{item.name: _plain(getattr(self, item.name)) for item in fields(self)}}

    def to_json(self) -> dict[str, Any]:
        """Return the document that `plan.schema.json` describes, with its `id`."""
        return {"id": self.id, **self._body()}

    def text(self) -> str:
        """Return the saved form: canonical JSON and a newline, byte-identical for the same input."""
        return canonical(self.to_json()) + "\n"


_COMMANDS = ("checks", "do", "after", "undo")


def _plain(value: Any) -> Any:
    if isinstance(value, Step):
        lists = {name: [to_json(command) for command in getattr(value, name)] for name in _COMMANDS}
        rest = {item.name: _plain(getattr(value, item.name)) for item in fields(value) if item.name not in _COMMANDS}
        return {**rest, **lists}
    if isinstance(value, (DiskRow, Space, Notice, Stop, Subject)):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, Mapping)):
        return value
    raise TypeError(f"a plan cannot hold {value!r}")


def plan_from_json(document: Mapping[str, Any]) -> Plan:
    """Return the plan of a document that is valid against `plan.schema.json`.

    Raises ValueError if its `id` is not the SHA-256 of the rest: it was changed after it was saved.
    """

    def rows(kind: Any, key: str) -> Any:
        return tuple(kind(**row) for row in document[key])

    said: dict[str, Any] = {key: value for key, value in document.items() if key not in ("id", "version")}
    said["steps"] = tuple(_step(step) for step in document["steps"])
    said["domains"] = rows(Subject, "domains")
    said["disks"], said["space"], said["stops"] = rows(DiskRow, "disks"), rows(Space, "space"), rows(Stop, "stops")
    said["warnings"] = rows(Notice, "warnings")
    said["destroys"], said["untested"] = tuple(document["destroys"]), tuple(document["untested"])
    plan = Plan(**said)
    if plan.id != document["id"]:
        raise ValueError("the plan's id is not that of its content")
    return plan


def _step(document: Mapping[str, Any]) -> Step:
    said: dict[str, Any] = dict(document)
    for name in _COMMANDS:
        said[name] = tuple(from_json(command) for command in said[name])
    said["undo_needs"] = tuple(said["undo_needs"])
    return Step(**said)


_ORDER: dict[UndoWhen, int] = {"held": 0, "thaw": 1, "free": 2}


def rollback(steps: Iterable[Step]) -> list[Step]:
    """Return the steps that have an undo in the order in which undos run: newest first, but first those that need the
    guest stopped, then those that let it go, then the rest, so that the guest runs again as soon as it can."""
    return sorted((step for step in steps if step.undo), key=lambda step: (_ORDER[step.undo_when], -step.number))


def monitors(plan: Plan) -> list[str]:
    """Return the paths of the monitors that a plan speaks with."""
    commands = [c for step in plan.steps for c in (*step.checks, *step.do, *step.after, *step.undo)]
    return sorted({command.monitor for command in commands if isinstance(command, Qmp | AwaitJob)})


def introduced(plan: Plan) -> int:
    """Return the number of the step after which the monitors are connected: once it is sure which domain this is."""
    return next((s.number for s in plan.steps if s.effect == "check" and s.subject == "domain"), 0)


def no_return(step: Step, plan: Plan) -> bool:
    """Say whether a step comes before the commit and yet cannot be undone."""
    return step.effect != "check" and not step.undo and step.number <= plan.commit and step.phase != "prepare"
