"""What a method is: how the disks of one kind are snapshotted, brought back and cleaned up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from planner import names
from planner.draft import Draft
from planner.facts import Disk, Held, Image, Record, Volume
from planner.operations.overlay import FreezeName, RemoveImage, TakePath


@dataclass(frozen=True, slots=True)
class Target:
    """One disk of the domain of a draft; `size` bytes if the spec says one."""

    draft: Draft
    disk: Disk
    size: int | None = None
    reason: str = ""

    @property
    def vdev(self) -> str:
        return self.disk.vdev

    @property
    def image(self) -> Image | None:
        return self.draft.facts.image(self.disk.path)

    @property
    def volume(self) -> Volume | None:
        return self.draft.facts.volume(self.disk.volume) if self.disk.volume else None

    @property
    def snapshot(self) -> str:
        return self.draft.spec.snapshot

    @property
    def node(self) -> str:
        """The root node of the disk in its running QEMU, "" if there is none."""
        return self.disk.nodes[0].name if self.disk.nodes and self.draft.domain.qemu else ""

    @property
    def monitor(self) -> str:
        return self.draft.domain.qemu.monitor if self.draft.domain.qemu else ""

    def refuse(self, summary: str, detail: str, hint: str = "") -> None:
        self.draft.refuse(summary, detail, hint, "disks", self.vdev)

    def refuse_unserved(self) -> None:
        """Refuse a disk that QMP cannot reach: another backend serves it, or QEMU names no node for it."""
        domain = self.draft.domain
        if domain.domid is None:
            return  # its state is refused, with better words
        if self.disk.backend == "qdisk" and not domain.qemu:
            detail = f"{self.vdev} is served by QEMU, but no monitor of a QEMU of {domain.name} is known"
        elif self.disk.backend == "qdisk":
            detail = f"{self.vdev} is served by QEMU, but under no node name: QEMU before 4.0 gives none"
        else:
            detail = f"{self.vdev} is served by the backend {self.disk.backend}: QMP cannot reach it"
        self.refuse("QEMU does not serve this disk by a name", detail, "use `reflink`, `copy` or `lvm`")

    def warn(self, text: str) -> None:
        self.draft.warn(f"{self.vdev}: {text}", "disks", self.vdev)

    def hold(self, method: str, holder: str, tag: str = "", reason: str = "") -> Held:
        """Return the record's entry of this disk."""
        disk = self.disk
        return Held(disk.vdev, method, disk.backend, disk.format, disk.path, disk.capacity, holder, tag, reason)


class Method(ABC):
    """One method. Each of its functions lays operations down in the draft, or refuses with the reason."""

    name: ClassVar[str]

    @abstractmethod
    def why(self, target: Target) -> str:
        """Say which facts chose it and which tool it uses, in a few words."""

    @abstractmethod
    def create(self, target: Target) -> Held:
        """Lay down the snapshot of a disk and return what it will hold."""

    @abstractmethod
    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        """Lay down the way back; the present is set aside under the snapshot name `present`, and returned if kept."""

    @abstractmethod
    def delete(self, target: Target, held: Held, record: Record) -> None:
        """Lay down the removal of what is held."""


def swap(target: Target, new: str, made: Iterable[int], present: str, keep: bool, method: str) -> Held | None:
    """Let the image `new` take over the disk's path while the present one is set aside, linked to its lasting name.

    Records that name the present image by its path are rewritten. With keep=False it is removed once the domain is up
    again, unless another snapshot needs it. `made`: handles of what made `new`.
    """
    draft, disk = target.draft, target.disk
    aside = names.frozen(disk.path, present)
    link = draft.add(FreezeName(target.vdev, disk.path, aside), "ready")
    draft.add(TakePath(target.vdev, disk.path, aside, new), "rename", undo_when="held", guards=[link, *made])
    needed = draft.move(disk.path, aside) or bool(draft.facts.children(disk.path))
    if keep:
        return target.hold(method, aside)
    if needed:
        target.warn(f"the present image stays as {aside}: other snapshots need it")
    else:
        draft.add(RemoveImage(target.vdev, aside), "remove")
        draft.destroys.append(f"{target.vdev}: what was written to {disk.path} since the snapshot")
    return None


def holders(target: Target, path: str, record: Record) -> list[str]:
    """Return the domain's other snapshots that hold something in the image at `path`."""
    records = target.draft.facts.records_of(target.draft.domain.name)
    others = [each for each in records if each.snapshot != record.snapshot]
    return [each.snapshot for each in others if any(held.holder == path for held in each.disks)]


def warn_of_children(target: Target) -> None:
    """Warn of images that are based on one that a guest writes to: what they hold changes under them."""
    children = target.draft.facts.children(target.disk.path)
    if children:
        based = ", ".join(child.path for child in children)
        target.warn(f"{based} is based on {target.disk.path}, which this guest writes to: it may be damaged already")
