"""Plans played on the model host: to the end, or up to a fault and back; and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from planner.commands import Qmp, Run
from planner.compile import compile_plan
from planner.plan import Plan, Step, Verb, rollback
from schema import spec as language
from schema.spec import Spec
from tests.model.host import NAME, STORE, Failed, Host
from tests.model.observer import observe

METHODS: dict[str, tuple[language.Method, ...]] = {
    "qcow2": ("internal", "external"), "raw": ("reflink", "copy"), "job": ("copy", "reflink"),
    "thick": ("lvm",), "thin": ("lvm",),
}  # fmt: skip


@dataclass
class Taken:
    """What a snapshot must give back: the memory (None for a domain that was off), and each disk."""

    ram: int | None
    disks: dict[str, list[int]]
    methods: dict[str, str] = field(default_factory=dict)


def declared(snapshot: str, methods: dict[str, language.Method] | None = None) -> Spec:
    disks = tuple(language.Disk(vdev, method) for vdev, method in (methods or {}).items())
    return Spec(NAME, snapshot, disks=disks)


def plan_on(host: Host, verb: Verb, spec: Spec, *, discard_current: bool = False) -> Plan:
    return compile_plan(verb, spec, observe(host), discard_current=discard_current)


def changing(step: Step) -> Iterator[int]:
    for index, command in enumerate(step.do):
        looks = isinstance(command, Run) and command.argv[0] in ("lvs", "test", "xl") and "list" in command.argv
        if not looks and not (isinstance(command, Qmp) and command.execute.startswith("query-")):
            yield index


def run(host: Host, plan: Plan) -> None:
    """Run a plan to its end; every check and every postcondition must hold."""
    for step in plan.steps:
        for command in (*step.checks, *step.do, *step.after):
            host.do(command)


def run_with_fault(host: Host, plan: Plan, at: int, index: int, *, acted: bool) -> list[int]:
    """Run a plan until command `index` of step `at` fails, before or after it acted; undo; return the failed undos."""
    armed: set[int] = set()
    for step in plan.steps[:at]:
        for command in step.checks:
            host.do(command)
        armed.add(step.number)
        if step.number < at:
            for command in (*step.do, *step.after):
                host.do(command)
            continue
        for number, command in enumerate(step.do):
            if number == index and not acted:
                break
            host.do(command)
            if number == index:
                break
    bad: list[int] = []
    for step in rollback(plan.steps):
        if step.number not in armed:
            continue
        if set(step.undo_needs) & set(bad):
            bad.append(step.number)
            continue
        try:
            for command in step.undo:
                host.do(command)
        except Failed:
            bad.append(step.number)
    return bad


def take(host: Host, snapshot: str, methods: dict[str, language.Method] | None = None) -> Taken:
    plan = plan_on(host, "create", declared(snapshot, methods))
    taken = Taken(
        host.ram, {vdev: host.seen(vdev) for vdev in host.kinds}, {row.vdev: row.method for row in plan.disks}
    )
    run(host, plan)
    return taken


def present(host: Host) -> Taken:
    return Taken(host.ram if host.domid is not None else None, {vdev: host.seen(vdev) for vdev in host.kinds})


def hold_guest(host: Host) -> None:
    """A guest must read the same through its QEMU and, after a reboot, through its configuration."""
    for vdev in host.kinds:
        assert host.seen(vdev) == host.lasting(vdev), f"{vdev}: a reboot would open another image"
        if host.qemu and vdev in host.qemu.roots:
            assert host.qemu.root(vdev).inode is host.files.names[host.path(vdev)]


def hold_snapshots(host: Host, snapshots: dict[str, Taken]) -> None:
    """Every record must still hold the very content of its instant, read without any of the planner's code."""
    facts = observe(host)
    assert {record.snapshot for record in facts.records} == set(snapshots)
    for record in facts.records:
        for held in record.disks:
            if held.method == "lvm":
                read = [block or 0 for block in host.volumes[held.holder.removeprefix("vg0/")].blocks]
            elif held.method == "internal":
                read = host.files.read(held.holder, held.tag)
            else:
                read = host.files.read(held.holder)
            assert read == snapshots[record.snapshot].disks[held.vdev], f"{record.snapshot}: {held}"
        if record.memory:
            assert host.files.names[record.memory].ram == snapshots[record.snapshot].ram


def hold_no_leftovers(host: Host, strangers: frozenset[str] = frozenset()) -> None:
    """Nothing may lie about that belongs to no disk and no record."""
    facts = observe(host)
    known = {host.path(vdev) for vdev in host.kinds} | set(strangers)
    folders = {"/srv/vm", STORE, f"{STORE}/{NAME}"}
    for record in facts.records:
        folders.add(record.folder)
        known |= {f"{record.folder}/record.json", record.memory, f"{record.memory}.sha256"}
        for held in record.disks:
            known |= {image.path for image in facts.chain(held.holder)} | {held.holder}
    for vdev in host.kinds:
        known |= {image.path for image in facts.chain(host.path(vdev))}
    known.add(f"{STORE}/{NAME}/current")
    assert set(host.files.names) <= known, set(host.files.names) - known
    assert host.files.folders <= folders, host.files.folders - folders
    volumes = {
        held.holder.removeprefix("vg0/") for record in facts.records for held in record.disks if held.method == "lvm"
    }
    volumes |= {f"lv-{vdev}" for vdev, kind in host.kinds.items() if kind in ("thick", "thin")} | {"pool"}
    assert set(host.volumes) <= volumes, set(host.volumes) - volumes
    assert not host.held
    if host.qemu:
        assert not host.qemu.jobs
