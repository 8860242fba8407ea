"""Where operations are laid down on the way to a plan: the order of steps, every need, risk and refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from planner.assume import assumptions
from planner.commands import Command
from planner.facts import Domain, Facts
from planner.operation import Operation
from planner.operations.domain import RUNS, Confirm, ConfirmSpace
from planner.operations.store import RewriteRecord
from planner.operations.transaction import Action, Rehearse, Transaction
from planner.plan import DiskRow, Notice, Phase, Plan, Space, Step, Stop, Subject, UndoWhen, Verb
from schema.diagnostic import Diagnostic, Refused
from schema.spec import Spec

# Every place a step can stand in, in the order in which steps run.
PLACES: dict[str, Phase] = {
    "confirm": "prepare", "folder": "prepare", "ready": "prepare", "rehearse": "prepare", "clear": "prepare",
    "mark": "prepare", "hold": "prepare",
    "stop": "freeze", "storage": "freeze", "transaction": "freeze", "rename": "freeze",
    "go": "thaw", "release": "thaw",
    "jobs": "finish", "settle": "finish", "moved": "finish", "remove": "finish", "publish": "finish", "last": "finish",
    "compact": "finish",
}  # fmt: skip
_RANK = {place: rank for rank, place in enumerate(PLACES)}


@dataclass(frozen=True, slots=True)
class _Entry:
    handle: int
    operation: Operation
    place: str
    undo_when: UndoWhen


@dataclass(frozen=True, slots=True)
class _Clear(Operation):
    """The checks of the steps that run while the guest stands still, made before it does."""

    effect = "check"
    commands: tuple[Command, ...]

    def title(self) -> str:
        return "confirm that nothing is in the way of the steps below"

    def why(self) -> str:
        return "so that no check has to run while the guest stands still"

    def subject(self) -> str:
        return "storage"

    def checks(self) -> Iterator[Command]:
        yield from self.commands

    def do(self) -> Iterator[Command]:
        yield from ()


@dataclass(slots=True)
class Draft:
    """A plan in the making for one domain; `plan` closes it."""

    verb: Verb
    spec: Spec
    facts: Facts
    domain: Domain
    folder: str
    live: bool = False
    offline: bool = False
    commit_place: str = ""
    note: str = ""
    entries: list[_Entry] = field(default_factory=list)
    needs: dict[int, list[int]] = field(default_factory=dict)
    actions: list[tuple[Action, tuple[int, ...]]] = field(default_factory=list)
    moves: dict[str, str] = field(default_factory=dict)
    rows: list[DiskRow] = field(default_factory=list)
    space: list[Space] = field(default_factory=list)
    low: int = 0
    high: int = 0
    basis: list[str] = field(default_factory=list)
    destroys: list[str] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)
    refusals: list[Diagnostic] = field(default_factory=list)

    def add(self, operation: Operation, place: str, *, undo_when: UndoWhen = "free", guards: Iterable[int] = ()) -> int:
        """Lay an operation down and return its handle; `guards` are the handles of earlier operations whose undo must
        wait for, and is skipped if it fails, this one's."""
        handle = len(self.entries)
        self.entries.append(_Entry(handle, operation, place, undo_when))
        for earlier in guards:
            self.needs.setdefault(earlier, []).append(handle)
        return handle

    def confirm(self, state: str = RUNS) -> None:
        """Lay down the proof that the domain, in the given state of `xl list`, and its disks are those of the facts."""
        domain, facts = self.domain, self.facts
        images = [
            (disk.path, image.inode) for disk in domain.disks if (image := facts.image(disk.path)) and image.inode
        ]
        volumes = [(disk.volume, v.uuid) for disk in domain.disks if (v := facts.volume(disk.volume)) and v.uuid]
        self.add(Confirm(domain.name, domain.domid, domain.uuid, state, tuple(images), tuple(volumes)), "confirm")

    def held(self) -> list[int]:
        """Return the handles of what was laid down so far whose undo needs the guest stopped."""
        return [entry.handle for entry in self.entries if entry.undo_when == "held"]

    def transact(self, action: Action, guards: Iterable[int] = ()) -> None:
        """Add an action to the domain's one QMP transaction."""
        self.actions.append((action, tuple(guards)))

    def move(self, path: str, now: str) -> bool:
        """Let every record that names the image at `path` name it `now`; return whether there is one."""
        self.moves[path] = now
        return any(held.holder == path for each in self.facts.records_of(self.domain.name) for held in each.disks)

    def stop(self, low: float, high: float, basis: str) -> None:
        """Add to the guess of how long the guest stands still, in milliseconds, and say what it rests on."""
        self.low += round(low)
        self.high += round(high)
        if basis and basis not in self.basis:
            self.basis.append(basis)

    def need(self, path: str, size: int, what: str) -> None:
        """Ask for `size` bytes on the filesystem of `path`."""
        filesystem = self.facts.filesystem(path)
        place, free = (filesystem.mount, filesystem.free) if filesystem else (path, -1)
        self.reserve(place, "filesystem", size, free, what)

    def reserve(self, place: str, kind: str, size: int, free: int, what: str) -> None:
        """Ask for `size` bytes of a place of which `free` are there; asks of one place are added up."""
        for index, row in enumerate(self.space):
            if (row.place, row.kind) == (place, kind):
                self.space[index] = Space(place, row.kind, row.needs + size, free, f"{row.what}, {what}")
                return
        self.space.append(Space(place, kind, size, free, what))  # type: ignore[arg-type]  # kinds are named by callers

    def warn(self, text: str, *path: str | int) -> None:
        where = self.spec.where(*path)
        self.warnings.append(Notice(text, str(where) if where else ""))

    def refuse(self, summary: str, detail: str, hint: str = "", *path: str | int) -> None:
        """Note why this cannot be planned; `plan` raises all of it at once."""
        where = self.spec.where(*(path or ("domain",)))
        text = self.spec.lines[where.line - 1] if where and where.line <= len(self.spec.lines) else ""
        self.refusals.append(Diagnostic(summary, detail, hint, where, ".".join(map(str, path)), text))

    def plan(self) -> Plan:
        """Order, lower and close.

        Raises Refused with every refusal of the draft, space that is not there included.
        """
        self._check_space()
        if self.refusals:
            raise Refused(sorted(self.refusals, key=_in_file_order))
        self._confirm_space()
        self._lay_transaction()
        self._lay_moves()
        self._lay_live()
        return Plan(
            verb=self.verb,
            snapshot=self.spec.snapshot,
            domains=(_subject(self.domain),),
            host=self.facts.host.name,
            store=self.spec.store,
            steps=tuple(self._steps()),
            description=self.spec.description,
            spec=self.spec.digest,
            source=str(self.spec.where() or ""),
            observed=self.facts.observed,
            offline=self.offline,
            disks=tuple(self.rows),
            space=tuple(self.space),
            stops=(Stop(self.domain.name, self.low, self.high, "; ".join(self.basis)),) if self.high else (),
            destroys=tuple(self.destroys),
            warnings=tuple(self.warnings),
            assumes=assumptions(self.facts, self.domain),
            untested=tuple(dict.fromkeys(self.untested)),
            note=self.note,
        )

    def _check_space(self) -> None:
        for row in self.space:
            if 0 <= row.free < row.needs:
                summary = "not enough memory to restore the domain" if row.kind == "memory" else "not enough space"
                detail = f"{row.place}: needs {_mib(row.needs)} MiB ({row.what}), {_mib(row.free)} MiB are free"
                hint = (
                    ""
                    if row.kind == "memory"
                    else "make room, or put the snapshot somewhere else (`store`, `memory.file`)"
                )
                self.refuse(summary, detail, hint)

    def _confirm_space(self) -> None:
        needs = []
        for row in self.space:
            # The memory of a domain that runs is free again by the time the other one is restored.
            returned = self.domain.memory if row.kind == "memory" and self.domain.domid is not None else 0
            if row.free >= 0 and row.needs > returned:
                needs.append((row.place, row.kind, row.needs - returned))
        if needs:
            self.add(ConfirmSpace(tuple(needs)), "confirm")

    def _lay_transaction(self) -> None:
        qemu = self.domain.qemu
        if not self.actions or qemu is None:
            return
        actions = tuple(action for action, _ in self.actions)
        rehearsed = tuple(action for action in actions if action.rehearsed)
        if rehearsed:
            self.add(Rehearse(qemu.monitor, rehearsed), "rehearse")
        guards = [handle for _, each in self.actions for handle in each]
        handle = self.add(Transaction(qemu.monitor, actions), "transaction", undo_when="held", guards=guards)
        # The undo commits into images that QEMU opens by their paths: those must be theirs again by then.
        self.needs.setdefault(handle, []).extend(entry.handle for entry in self.entries if entry.place == "rename")
        self.stop(5 * len(actions), 50 * len(actions), "")

    def _lay_moves(self) -> None:
        for record in self.facts.records_of(self.domain.name):
            disks = tuple(replace(held, holder=self.moves.get(held.holder, held.holder)) for held in record.disks)
            if disks != record.disks:
                moved = ", ".join(new.holder for old, new in zip(record.disks, disks, strict=True) if old != new)
                self.add(RewriteRecord(replace(record, disks=disks), f"its image is now {moved}"), "moved")

    def _lay_live(self) -> None:
        """Let what a live capture's disks have become be undone once the guest runs again, not before.

        It can run again at any time, should its receiver be killed; and until then the QEMU of an HVM guest has handed
        its images over, and may not be asked to write to them.
        """
        if not self.live:
            return
        stop = next(entry.handle for entry in self.entries if entry.place == "stop")
        for entry in [each for each in self.entries if each.undo_when == "held"]:
            self.entries[entry.handle] = replace(entry, undo_when="free")
            self.needs.setdefault(entry.handle, []).append(stop)

    def _steps(self) -> Iterable[Step]:
        entries = sorted(self.entries, key=lambda entry: (_RANK[entry.place], entry.handle))
        frozen = [e for e in entries if PLACES[e.place] == "freeze"]
        hoisted = tuple(dict.fromkeys(repr(c) for e in frozen for c in e.operation.checks()))
        if hoisted:
            commands = {repr(c): c for e in frozen for c in e.operation.checks()}
            clear = _Entry(len(entries), _Clear(tuple(commands[key] for key in hoisted)), "clear", "free")
            entries = sorted([*entries, clear], key=lambda entry: (_RANK[entry.place], entry.handle))
        number = {entry.handle: index for index, entry in enumerate(entries, 1)}
        committing = [number[e.handle] for e in entries if _RANK[e.place] <= _RANK.get(self.commit_place, -1)]
        for entry in entries:
            operation, index = entry.operation, number[entry.handle]
            yield Step(
                number=index,
                domain=self.domain.name,
                title=operation.title(),
                why=operation.why(),
                subject=operation.subject(),
                effect=operation.effect,
                phase=PLACES[entry.place],
                checks=() if entry in frozen else tuple(operation.checks()),
                do=tuple(operation.do()),
                after=tuple(operation.after()),
                undo=tuple(operation.undo()),
                undo_when=entry.undo_when,
                undo_needs=tuple(sorted({number[handle] for handle in self.needs.get(entry.handle, ())})),
                commit=bool(committing) and index == max(committing),
            )


def _subject(domain: Domain) -> Subject:
    return Subject(domain.name, domain.uuid, domain.type, domain.state, domain.memory, domain.domid)


def _mib(size: int) -> int:
    return -(-size // 2**20)


def _in_file_order(diagnostic: Diagnostic) -> tuple[int, int]:
    where = diagnostic.position
    return (where.line, where.column) if where else (0, 0)
