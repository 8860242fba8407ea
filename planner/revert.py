"""The verb revert: the domain as it was, the present set aside first as an ordinary snapshot."""

from __future__ import annotations

from planner import names
from planner.create import record as make_record
from planner.draft import Draft
from planner.estimate import image_size
from planner.facts import Disk, Held, Record
from planner.methods import METHODS
from planner.methods.method import Target
from planner.operations.domain import HELD, RUNS, Confirm, Destroy, Restore, SavePresent
from planner.operations.store import MakeFolder, MarkCurrent, PublishMemory, PublishRecord, VerifyMemory
from planner.plan import DiskRow, Space
from planner.refusals import refuse_compressed, refuse_features, refuse_state

_SUSPENDED = "[r-][b-][p-]ss-"
_DEAD = "[r-][b-][p-]s[rcwS-]-"
_STATES = {"paused": HELD, "suspended": _SUSPENDED, "shut-down": _DEAD, "crashed": _DEAD, "rebooting": _DEAD}


def revert(draft: Draft, *, discard: bool, allow_drift: bool) -> None:
    """Lay down the way back to the snapshot that the draft's spec names.

    discard: give up the present instead of saving it. allow_drift: go on although disks were added, removed or changed.
    """
    spec, domain, facts = draft.spec, draft.domain, draft.facts
    refuse_state(draft, discard=discard)
    target = facts.record(domain.name, spec.snapshot)
    if target is None or target.state != "complete":
        refuse_missing(draft, target)
        return
    if target.compressed:
        refuse_compressed(draft, "snapshot")
    draft.commit_place = "go"
    present = present_name(draft)
    alive = domain.state == "running" and not discard
    keep = not discard
    folder = f"{spec.store}/{domain.name}/{present}"
    image = f"{folder}/memory"

    draft.confirm(_STATES.get(domain.state, RUNS))
    made = [draft.add(MakeFolder(f"{spec.store}/{domain.name}", folder), "folder")] if keep else []
    if target.memory:
        draft.add(VerifyMemory(target.memory, target.compressed), "confirm")
    _drift(draft, target, allow_drift)
    holds = _disks(draft, target, present, keep)
    disks = draft.held()
    stop = _stop(draft, alive, f"{image}.part", image, made)
    # The old memory may only come back to the old disks, and the disks only while no domain has them.
    draft.needs.setdefault(stop, []).extend(disks)
    if target.memory:
        # Its UUID comes out of the image, with its configuration: one that says none is given another by each create.
        back = Restore(domain.name, target.uuid, target.memory, target.compressed)
        if target.uuid != domain.uuid:
            draft.warn(
                f"{domain.name} was created anew since the snapshot: it gets back the UUID of then, {target.uuid}"
            )
        draft.add(back, "go", undo_when="held", guards=[*disks, stop])
    if keep:
        if alive:
            refuse_features(draft)
            draft.add(PublishMemory(f"{image}.part", image), "publish")
        draft.add(PublishRecord(make_record(draft, present, holds, image if alive else "")), "publish")
    draft.add(MarkCurrent(f"{spec.store}/{domain.name}", spec.snapshot), "last")
    _needs(draft, target, alive, image)


def refuse_missing(draft: Draft, record: Record | None) -> None:
    """Refuse because the snapshot is not there, or half deleted; names those that are."""
    known = ", ".join(each.snapshot for each in draft.facts.records_of(draft.domain.name)) or "none"
    if record is None:
        detail, hint = f"{draft.domain.name} has no snapshot {draft.spec.snapshot}; it has {known}", ""
    else:
        detail, hint = f"{record.snapshot} is being deleted: parts of it are gone", "finish that with --delete"
    draft.refuse("no such snapshot", detail, hint, "snapshot")


def present_name(draft: Draft) -> str:
    """Return the first free name of the kind pre-revert-N.

    One is taken also by what a present that was given up has left behind, because other snapshots need it.
    """
    facts, number = draft.facts, 1
    taken = {record.snapshot for record in facts.records_of(draft.domain.name)}
    taken |= {tag for disk in draft.domain.disks for image in facts.chain(disk.path) for tag in image.snapshots}
    while True:
        name = f"pre-revert-{number}"
        images = any(facts.image(names.frozen(disk.path, name)) for disk in draft.domain.disks)
        volumes = any(facts.volume(names.volume(disk.volume, name)) for disk in draft.domain.disks if disk.volume)
        if not (name in taken or images or volumes):
            return name
        number += 1


def _stop(draft: Draft, alive: bool, part: str, image: str, made: list[int]) -> int:
    domain = draft.domain
    if domain.domid is None:
        return draft.add(Confirm(domain.name, None, domain.uuid), "stop")
    qemu = domain.qemu.process if domain.qemu else None
    if alive:
        operation = SavePresent(domain.name, domain.domid, domain.uuid, part, image, qemu)
        return draft.add(operation, "stop", undo_when="thaw", guards=made)
    draft.destroys.append(f"memory: what {domain.name} holds in it now ({domain.state.replace('-', ' ')})")
    if domain.state in ("running", "paused"):
        draft.warn(f"nothing brings that memory back: if the revert fails later, {domain.name} stays off")
    return draft.add(Destroy(domain.name, domain.domid, domain.uuid, qemu), "stop")


def _drift(draft: Draft, target: Record, allowed: bool) -> None:
    """Hold the disks of now against those of the snapshot, and refuse what differs unless that is allowed."""
    then = {held.vdev: held for held in target.disks}
    now = {disk.vdev: disk for disk in draft.domain.disks if disk.writable and not disk.cdrom}
    drift = [f"{vdev} was added since" for vdev in now.keys() - then.keys()]
    drift += [f"{vdev} was removed since" for vdev in then.keys() - now.keys()]
    for vdev in then.keys() & now.keys():
        held, disk = then[vdev], now[vdev]
        if held.path != disk.path:
            drift.append(f"{vdev} was {held.path} and is {disk.path}")
        elif held.capacity != disk.capacity:
            drift.append(f"{vdev} had {held.capacity} bytes and has {disk.capacity}")
    for line in sorted(drift):
        if allowed:
            draft.warn(f"{line}; the memory of the snapshot knows nothing of it")
        else:
            draft.refuse(
                "the domain's disks are not those of the snapshot", line, "allow it with --allow-drift", "snapshot"
            )


def _disks(draft: Draft, record: Record, present: str, keep: bool) -> tuple[Held, ...]:
    now = {disk.vdev: disk for disk in draft.domain.disks}
    holds = []
    for held in record.disks:
        disk = now.get(held.vdev)
        if disk is None or disk.path != held.path:  # drift, which _drift has spoken of
            disk = Disk(held.vdev, held.backend, held.format, held.path, held.path, held.capacity)
        method = METHODS[held.method]
        kept = method.revert(Target(draft, disk, reason=held.reason), held, present, keep)
        if kept:
            holds.append(kept)
        row = (held.vdev, disk.backend, disk.format, disk.path, disk.capacity, held.method)
        draft.rows.append(DiskRow(draft.domain.name, *row, _why(held, kept), held.holder))
    return tuple(holds)


def _why(held: Held, kept: Held | None) -> str:
    if held.method == "exclude":
        return f"left alone: {held.reason}"
    if kept is None:
        return "the present is given up"
    return f"the present is kept as {kept.tag if kept.method == 'internal' else kept.holder}"


def _needs(draft: Draft, target: Record, alive: bool, image: str) -> None:
    domain, host = draft.domain, draft.facts.host
    if alive:
        draft.need(image, image_size(domain.memory), "memory of the present")
    if target.memory:
        free = host.memory_free + (domain.memory if domain.domid is not None else 0)
        needs = target.memory_size + target.memory_size // 64 + 8 * 2**20  # page tables and Xen's own share
        draft.space.append(Space("RAM", "memory", needs, free, "restoring the domain"))
        rate = host.save_rate
        size = image_size(target.memory_size) + (image_size(domain.memory) if alive else 0)
        basis = (
            f"at {rate // 2**20} MiB/s as last measured"
            if rate
            else "at an assumed 50-500 MiB/s: none was measured here yet"
        )
        low, high = (0.8 * size / rate, 1.5 * size / rate) if rate else (size / (500 * 2**20), size / (50 * 2**20))
        draft.stop(1000 * low + 2000, 1000 * high + 10000, f"memory written and read {basis}")
