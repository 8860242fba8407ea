"""Snapshots of logical volumes, thick and thin; an LVM tag that the plan chose proves a volume ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.commands import Command, Run
from planner.operations.overlay import OnDisk

# Seen on LVM 2.03.31: errors exit 5, a name that is not allowed 3; `lvconvert --merge` of an open origin exits 0 and
# only schedules the merge, so the snapshot must be proved gone.
MISSING = 5


def ours(name: str, tag: str) -> str:
    """Return the selection that only a volume of this name with our tag meets."""
    return f'lv_name="{name}" && lv_tags={{"{tag}"}}'


@dataclass(frozen=True, slots=True)
class SnapshotVolume(OnDisk):
    """Snapshot a logical volume; `size` bytes of copy-on-write space for a thick one, 0 for a thin one.

    tag: the LVM tag that proves it ours; "" for one that takes over a volume's name.
    """

    vg: str
    origin: str
    name: str
    size: int
    tag: str

    def title(self) -> str:
        kind = f"thick, {_mib(self.size)} MiB" if self.size else "thin"
        return f"{self.vdev}: LVM snapshot {self.vg}/{self.name} ({kind})"

    def why(self) -> str:
        return f"{self.vg}/{self.origin} is a logical volume"

    def checks(self) -> Iterator[Command]:
        yield Run(("lvs", "--", f"{self.vg}/{self.name}"), status=MISSING)

    def do(self) -> Iterator[Command]:
        yield Run(snapshot_argv(self.vg, self.origin, self.name, self.size, self.tag))

    def undo(self) -> Iterator[Command]:
        if self.tag:
            yield Run(("lvremove", "--yes", "--select", ours(self.name, self.tag), "--", self.vg))
        else:
            yield Run(
                ("lvremove", "--yes", "--", f"{self.vg}/{self.name}"), when=("lvs", "--", f"{self.vg}/{self.name}")
            )


def snapshot_argv(vg: str, origin: str, name: str, size: int, tag: str) -> tuple[str, ...]:
    """Return the words of lvcreate; thin snapshots are born with the skip-activation flag unless told otherwise."""
    kind = ("--size", f"{size}b") if size else ("--setactivationskip", "n")
    tagged = ("--addtag", tag) if tag else ()
    return ("lvcreate", "--snapshot", "--yes", "--name", name, *kind, *tagged, "--", f"{vg}/{origin}")


@dataclass(frozen=True, slots=True)
class RenameVolume(OnDisk):
    """Rename a logical volume that nothing has open; thin snapshots keep their origin's data when it is renamed.

    tag: the LVM tag that proves it ours under its new name, "" for one that becomes the disk.
    """

    effect = "change"
    vg: str
    old: str
    new: str
    tag: str = ""

    def title(self) -> str:
        return f"{self.vdev}: rename {self.vg}/{self.old} to {self.new}"

    def do(self) -> Iterator[Command]:
        yield Run(("lvrename", "--", self.vg, self.old, self.new))
        if self.tag:
            yield Run(("lvchange", "--addtag", self.tag, "--", f"{self.vg}/{self.new}"))

    def undo(self) -> Iterator[Command]:
        done = ("lvs", "--", f"{self.vg}/{self.old}")
        if self.tag:
            yield Run(("lvchange", "--deltag", self.tag, "--", f"{self.vg}/{self.new}"), unless=done)
        yield Run(("lvrename", "--", self.vg, self.new, self.old), unless=done)


@dataclass(frozen=True, slots=True)
class Unused(OnDisk):
    """Prove that nothing has a volume open any more."""

    effect = "check"
    vg: str
    name: str

    def title(self) -> str:
        return f"{self.vdev}: confirm that nothing has {self.vg}/{self.name} open"

    def why(self) -> str:
        return "a merge into a volume that is open exits 0 and is only put off until later"

    def do(self) -> Iterator[Command]:
        yield Run(
            ("lvs", "--noheadings", "-o", "lv_device_open", "--", f"{self.vg}/{self.name}"), lacks="open", within=30
        )


@dataclass(frozen=True, slots=True)
class MergeVolume(OnDisk):
    """Merge a thick snapshot back into its origin, which consumes it, and make it again at once; sizes in bytes.

    present: the thick snapshot that holds the origin's present content, "" if it was given up.
    """

    effect = "change"
    vg: str
    origin: str
    name: str
    size: int
    tag: str
    present: str

    def title(self) -> str:
        return f"{self.vdev}: merge {self.vg}/{self.name} back into {self.origin}, and take it again"

    def why(self) -> str:
        return "a merge consumes the snapshot: it is made again before the guest can write"

    def do(self) -> Iterator[Command]:
        yield from self._merge(self.name)
        yield Run(snapshot_argv(self.vg, self.origin, self.name, self.size, self.tag))

    def undo(self) -> Iterator[Command]:
        if self.present:
            again = snapshot_argv(self.vg, self.origin, self.name, self.size, self.tag)
            yield Run(again, unless=("lvs", "--", f"{self.vg}/{self.name}"))
            # A merge consumes its snapshot: one that is gone was merged by an undo that was cut off.
            there = ("lvs", "--", f"{self.vg}/{self.present}")
            yield from self._merge(self.present, when=there)

    def _merge(self, name: str, when: tuple[str, ...] = ()) -> Iterator[Command]:
        yield Run(("lvconvert", "--yes", "--merge", "--", f"{self.vg}/{name}"), when=when)
        yield Run(("lvs", "--", f"{self.vg}/{name}"), status=MISSING, within=600)


@dataclass(frozen=True, slots=True)
class ExtendVolume(OnDisk):
    """Give a thick snapshot room for what a merge writes into its origin; an overflow would make it invalid. Bytes."""

    effect = "change"
    vg: str
    name: str
    size: int

    def title(self) -> str:
        return f"{self.vdev}: extend {self.vg}/{self.name} to {_mib(self.size)} MiB"

    def why(self) -> str:
        return "the merge below writes into its origin, and an overflow would make this snapshot invalid"

    def do(self) -> Iterator[Command]:
        yield Run(("lvextend", "--size", f"{self.size}b", "--", f"{self.vg}/{self.name}"))


@dataclass(frozen=True, slots=True)
class RemoveVolume(OnDisk):
    """Remove a snapshot volume of ours."""

    effect = "destroy"
    vg: str
    name: str

    def title(self) -> str:
        return f"{self.vdev}: remove {self.vg}/{self.name}"

    def do(self) -> Iterator[Command]:
        yield Run(("lvremove", "--yes", "--", f"{self.vg}/{self.name}"), when=("lvs", "--", f"{self.vg}/{self.name}"))


def _mib(size: int) -> int:
    return -(-size // 2**20)
