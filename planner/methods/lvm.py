"""The method `lvm`: snapshots of logical volumes, thick and thin."""

from __future__ import annotations

from planner import names
from planner.facts import Held, Record, Volume
from planner.methods.method import Method, Target
from planner.operations.lvm import (
    ExtendVolume,
    MergeVolume,
    RemoveVolume,
    RenameVolume,
    SnapshotVolume,
    Unused,
)

_CHUNK = 4096  # bytes of a thick snapshot's chunk; 256 exceptions fit a chunk of metadata
_POOL_WARN, _POOL_REFUSE = 80.0, 95.0


class Lvm(Method):
    name = "lvm"

    def why(self, target: Target) -> str:
        volume = target.volume
        return f"{'thin' if volume and volume.kind == 'thin' else 'thick'} logical volume: lvcreate --snapshot"

    def create(self, target: Target) -> Held:
        draft, volume = target.draft, target.volume
        if volume is None:
            target.refuse("not a logical volume", f"{target.disk.path} is not one of the host's logical volumes", "")
            return target.hold(self.name, "")
        name, tag = names.volume(volume.name, target.snapshot), names.lvm_tag(draft.domain, target.snapshot)
        size = self._size(target, volume)
        self._refuse(target, volume, name)
        draft.add(SnapshotVolume(target.vdev, volume.vg, volume.name, name, size, tag), "storage")
        draft.stop(50, 2000, "lvcreate takes 0.05-2 s")
        return target.hold(self.name, f"{volume.vg}/{name}", tag)

    def _size(self, target: Target, volume: Volume) -> int:
        """Return the bytes that a thick snapshot gets: what the spec says, else enough that it can never fill."""
        if volume.kind == "thin":
            if target.size:
                target.refuse(
                    "a thin snapshot has no size",
                    f"{volume.id} is thin: its snapshots take from the pool {volume.vg}/{volume.pool} what they need",
                    "leave `size` out",
                )
            return 0
        extent, full = self._extent(target, volume), full_size(volume.size)
        size = min(_round_up(target.size or full, extent), _round_up(full, extent))
        group = target.draft.facts.volume_group(volume.vg)
        what = f"{target.vdev} snapshot"
        target.draft.reserve(volume.vg, "volume group", size, group.free if group else -1, what)
        if size < full:
            target.warn(
                f"the snapshot becomes invalid once {size // 2**20} MiB of {volume.id} have been overwritten;"
                f" {_round_up(full, extent) // 2**20} MiB would never fill"
            )
        return size

    def _extent(self, target: Target, volume: Volume) -> int:
        group = target.draft.facts.volume_group(volume.vg)
        return group.extent if group else 4 * 2**20

    def _refuse(self, target: Target, volume: Volume, name: str) -> None:
        facts = target.draft.facts
        if volume.kind not in ("linear", "striped", "thin"):
            target.refuse(
                "this logical volume cannot be snapshotted",
                f"{volume.id} is of the kind {volume.kind}; LVM has no snapshots of snapshots",
                "use `exclude`, with a reason",
            )
        if objection := names.lvm_objection(volume.vg, name):
            target.refuse(
                "LVM would not have this name", f"{volume.vg}/{name}: {objection}", "choose another snapshot name"
            )
        if facts.volume(f"{volume.vg}/{name}"):
            target.refuse(
                "a volume is in the way", f"{volume.vg}/{name} exists already", "choose another snapshot name"
            )
        pool = facts.volume(f"{volume.vg}/{volume.pool}") if volume.pool else None
        if pool is None:
            return
        for what, percent in (("data", pool.data_percent or 0.0), ("metadata", pool.metadata_percent or 0.0)):
            if percent >= _POOL_REFUSE:
                target.refuse(
                    "the thin pool is nearly full",
                    f"the {what} of {pool.id} is {percent:.0f} % full; a full pool stops every volume in it",
                    f"extend it: lvextend --size +SIZE {pool.id}",
                )
            elif percent >= _POOL_WARN:
                target.warn(f"the {what} of the thin pool {pool.id} is {percent:.0f} % full")

    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        facts, origin = target.draft.facts, target.volume
        snapshot = facts.volume(held.holder)
        if origin is None or snapshot is None:
            lost = held.holder if snapshot is None else target.disk.path
            target.refuse("the snapshot has lost a disk", f"{lost}, of {held.vdev}, is not there")
            return None
        if snapshot.invalid:
            target.refuse("the snapshot of a disk is invalid", f"{snapshot.id} has overflowed: LVM has given it up")
            return None
        if snapshot.kind == "thin":
            return self._revert_thin(target, origin, snapshot, present, keep)
        if snapshot.origin != origin.name:
            target.refuse(
                "the snapshot belongs to another volume",
                f"{snapshot.id} is a snapshot of {snapshot.origin}, not {origin.name}",
            )
            return None
        return self._revert_thick(target, origin, snapshot, held, present, keep)

    def _revert_thin(self, target: Target, origin: Volume, snapshot: Volume, present: str, keep: bool) -> Held | None:
        draft, vg = target.draft, origin.vg
        clone, aside = f"{origin.name}-{target.snapshot}.new", names.volume(origin.name, present)
        tag = names.lvm_tag(draft.domain, present)
        made = draft.add(SnapshotVolume(target.vdev, vg, snapshot.name, clone, 0, ""), "ready")
        draft.add(Unused(target.vdev, vg, origin.name), "storage")
        first = draft.add(RenameVolume(target.vdev, vg, origin.name, aside, tag), "storage", undo_when="held")
        second = RenameVolume(target.vdev, vg, clone, origin.name)
        draft.add(second, "storage", undo_when="held", guards=[made, first])
        if keep:
            return target.hold(self.name, f"{vg}/{aside}", tag)
        draft.add(RemoveVolume(target.vdev, vg, aside), "remove")
        draft.destroys.append(f"{target.vdev}: what was written to {origin.id} since the snapshot")
        return None

    def _revert_thick(
        self, target: Target, origin: Volume, snapshot: Volume, held: Held, present: str, keep: bool
    ) -> Held | None:
        draft, vg, full = target.draft, origin.vg, _round_up(full_size(origin.size), self._extent(target, origin))
        group = draft.facts.volume_group(vg)
        free = group.free if group else -1
        for other in draft.facts.snapshots_of(origin):
            thick = other.kind == "thick-snapshot" and not other.invalid
            if thick and other.id != snapshot.id and other.size < full:
                draft.add(ExtendVolume(target.vdev, vg, other.name, full), "ready")
                draft.reserve(vg, "volume group", full - other.size, free, f"{other.name} extended")
        draft.add(Unused(target.vdev, vg, origin.name), "storage")
        aside, tag, guards = names.volume(origin.name, present), names.lvm_tag(draft.domain, present), []
        if keep:
            guards = [draft.add(SnapshotVolume(target.vdev, vg, origin.name, aside, full, tag), "storage")]
            draft.reserve(vg, "volume group", full, free, f"{target.vdev} as it is now")
        else:
            draft.destroys.append(f"{target.vdev}: what was written to {origin.id} since the snapshot")
        merge = MergeVolume(target.vdev, vg, origin.name, snapshot.name, snapshot.size, held.tag, aside if keep else "")
        draft.add(merge, "storage", undo_when="held", guards=guards)
        return target.hold(self.name, f"{vg}/{aside}", tag) if keep else None

    def delete(self, target: Target, held: Held, record: Record) -> None:
        draft, volume = target.draft, target.draft.facts.volume(held.holder)
        if volume is None:
            target.warn(f"{held.holder} is gone already")
            return
        users = [who.name for who in draft.facts.domains for disk in who.disks if disk.volume == volume.id]
        if users:
            target.refuse("a volume is in use", f"{volume.id} is a disk of {', '.join(users)}", "")
        draft.add(RemoveVolume(target.vdev, volume.vg, volume.name), "remove")
        draft.destroys.append(f"{target.vdev}: {volume.id}")


def full_size(origin: int) -> int:
    """Return the bytes with which a thick snapshot of `origin` bytes can hold every chunk of it, exceptions included.

    LVM itself cuts a larger size down to this, rounded up to an extent (seen: 68 MiB for an origin of 64 MiB).
    """
    chunks = -(-origin // _CHUNK)
    return (chunks + chunks // 256 + 2) * _CHUNK


def _round_up(size: int, extent: int) -> int:
    return -(-size // extent) * extent
