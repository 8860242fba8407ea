"""The verb create: memory and all disks of a running domain at one instant."""

from __future__ import annotations

from typing import Literal

from planner.draft import Draft
from planner.estimate import estimate_memory
from planner.facts import Disk, Held, Record
from planner.methods import METHODS, suitable
from planner.methods.method import Target
from planner.operations.domain import CaptureLive, FreeMonitor, HoldMonitor, ReleaseGuest, SaveMemory, Unpause
from planner.operations.store import CompactMemory, MakeFolder, MarkCurrent, PublishMemory, PublishRecord
from planner.plan import DiskRow
from planner.refusals import refuse_compressed, refuse_features, refuse_live, refuse_state
from schema import spec as language


def create(draft: Draft) -> None:
    """Lay down the snapshot that the draft's spec declares."""
    spec, domain = draft.spec, draft.domain
    draft.commit_place = "rename"
    refuse_state(draft)
    refuse_features(draft)
    if draft.live:
        refuse_live(draft)
    if spec.memory.compress:
        refuse_compressed(draft, "memory", "compress")
    name, uuid, domid = domain.name, domain.uuid, domain.domid or 0
    image = spec.memory.file or f"{draft.folder}/memory"
    part = f"{image}.part"

    draft.confirm()
    folder = draft.add(MakeFolder(f"{spec.store}/{name}", draft.folder), "folder")
    holds = disks(draft)
    if domain.xl_monitor and draft.facts.host.xen_version < (4, 20):
        held = [draft.add(HoldMonitor(name, domain.xl_monitor), "hold", undo_when="thaw")]
    else:
        held = []
        if draft.offline and draft.facts.host.xen_version < (4, 20):
            draft.warn(
                f"the process of {name}'s xl monitor is not known offline, so it cannot be held: it exits when the"
                " guest is suspended, and the guest's next reboot leaves it dead (Xen before 4.20)",
                "assume",
                "xen",
            )
    limits = spec.memory.give_up or language.GiveUp()
    most = limits.bytes(domain.memory)
    published = record(draft, spec.snapshot, holds, image)
    later = tuple(f"{path}{end}" for path in published.images for end in ("", ".sha256"))
    live = CaptureLive(name, domid, uuid, part, later, limits.after or 0, most)
    stop = live if draft.live else SaveMemory(name, domid, uuid, part, later)
    draft.add(stop, "stop", undo_when="thaw", guards=[folder, *held])
    draft.add(ReleaseGuest(name, domid, uuid) if draft.live else Unpause(name, domid, uuid), "go")
    if domain.xl_monitor and held:
        draft.add(FreeMonitor(name, domain.xl_monitor), "release")
    draft.add(PublishMemory(part, image), "publish")
    draft.add(PublishRecord(published), "publish")
    draft.add(MarkCurrent(f"{spec.store}/{name}", spec.snapshot), "last")
    if published.shrink:
        draft.add(CompactMemory(published, pages=draft.live and spec.memory.compact), "compact")
    estimate_memory(draft, published)
    _warn_shared_filesystem(draft, image)


def record(draft: Draft, snapshot: str, holds: tuple[Held, ...], memory: str) -> Record:
    """Return the record of a snapshot of the domain as it is now; `memory` is "" if it was off."""
    spec, domain = draft.spec, draft.domain
    return Record(
        domain=domain.name,
        uuid=domain.uuid,
        type=domain.type,
        snapshot=snapshot,
        folder=f"{spec.store}/{domain.name}/{snapshot}",
        disks=holds,
        taken=draft.facts.observed,
        description=spec.description
        if snapshot == spec.snapshot
        else f"The present, before the revert to {spec.snapshot}",
        parent=(draft.facts.current or {}).get(domain.name, ""),
        capture=spec.memory.capture if draft.verb == "create" else "paused",
        memory=memory,
        memory_size=domain.memory if memory else 0,
        shrink=_shrink(draft) if draft.verb == "create" else "",
        xen=draft.facts.host.xen,
        spec=spec.digest if snapshot == spec.snapshot else "",
    )


def _shrink(draft: Draft) -> Literal["", "compact", "zst"]:
    if draft.spec.memory.compress:
        return "zst"
    return "compact" if draft.live and draft.spec.memory.compact else ""


def disks(draft: Draft) -> tuple[Held, ...]:
    """Lay down the snapshot of every writable disk, by the method that the spec says or that suits it."""
    said = {disk.vdev: disk for disk in draft.spec.disks}
    there = {disk.vdev: disk for disk in draft.domain.disks}
    for vdev in said.keys() - there.keys():
        draft.refuse(
            "no such disk",
            f"{draft.domain.name} has no disk {vdev}; it has {', '.join(there) or 'none'}",
            _nearest(vdev, there),
            "disks",
            vdev,
        )
    return tuple(held for disk in draft.domain.disks if (held := _disk(draft, disk, said.get(disk.vdev))))


def _disk(draft: Draft, disk: Disk, said: language.Disk | None) -> Held | None:
    if disk.cdrom or not disk.writable:
        why = "a CD drive" if disk.cdrom else "read-only"
        if said and said.method not in (None, "exclude"):
            draft.refuse(
                "nothing to snapshot",
                f"{disk.vdev} is {why}: its content cannot change",
                "leave it out",
                "disks",
                disk.vdev,
            )
        return None
    method = said.method if said and said.method else suitable(disk, draft.facts)
    target = Target(draft, disk, said.size if said else None, (said.reason or "") if said else "")
    if said:
        _compare(target, said)
    if not method or (disk.backend_domain and method != "exclude"):
        reason = (
            f"its backend is in domain {disk.backend_domain}"
            if disk.backend_domain
            else f"{disk.format} on {disk.backend}"
        )
        target.refuse(
            "no safe method for this disk",
            f"{disk.vdev} ({disk.path or disk.target}): {reason}",
            f"leave it out of the snapshot: {disk.vdev}: {{method: exclude, reason: ...}}",
        )
        return None
    shared = [f"{who.name} ({other.vdev})" for who, other in draft.facts.users(disk.path) if other is not disk]
    if shared and method != "exclude" and disk.path:
        target.refuse(
            "a disk is shared",
            f"{disk.path} is also the disk of {', '.join(shared)}: no snapshot can hold it at one instant",
            f"leave it out of the snapshot: {disk.vdev}: {{method: exclude, reason: ...}}",
        )
    held = METHODS[method].create(target)
    why = METHODS[method].why(target)
    draft.rows.append(
        DiskRow(
            draft.domain.name, disk.vdev, disk.backend, disk.format, disk.path, disk.capacity, method, why, held.holder
        )
    )
    return held


def _compare(target: Target, said: language.Disk) -> None:
    """Hold what the spec says of a disk against the facts."""
    disk = target.disk
    pairs = (
        ("target", said.target, (disk.target, disk.path)),
        ("format", said.format, (disk.format,)),
        ("backend", said.backend, (disk.backend,)),
        ("capacity", said.capacity, (disk.capacity,)),
    )
    for key, wanted, found in pairs:
        if wanted is not None and wanted not in found:
            target.draft.refuse(
                "the spec and the host disagree",
                f"{disk.vdev} has the {key} {found[0]}, not {wanted}",
                f"correct `{key}`, or leave it out",
                "disks",
                disk.vdev,
                key,
            )


def _nearest(vdev: str, there: dict[str, Disk]) -> str:
    from difflib import get_close_matches  # imported late: it is slow to load, and only errors need it

    close = get_close_matches(vdev, there, 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def _warn_shared_filesystem(draft: Draft, image: str) -> None:
    """Warn when disks that can still grow may fill the filesystem that the memory image lies on."""
    filesystem, facts = draft.facts.filesystem(image), draft.facts
    growing = {
        row.vdev: max(row.capacity - (there.allocated if (there := facts.image(row.path)) else 0), 0)
        for row in draft.rows
        if row.format == "qcow2" and row.method != "exclude" and facts.filesystem(row.path) == filesystem
    }
    left = filesystem.free - sum(row.needs for row in draft.space if row.place == filesystem.mount) if filesystem else 0
    if filesystem and left < sum(growing.values()):
        draft.warn(
            f"the memory image lies on {filesystem.mount} beside {', '.join(growing)}, which can still grow by"
            f" {sum(growing.values()) // 2**20} MiB with {left // 2**20} MiB left: a full filesystem stops every write",
            "store",
        )
