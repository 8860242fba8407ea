"""The method `vhd`: VHD images under tapdisk. No host with blktap was at hand: planned and printed, never run."""

from __future__ import annotations

from planner import names
from planner.facts import Held, Record
from planner.methods.method import Method, Target, swap
from planner.operations.overlay import FreezeName, RemoveImage
from planner.operations.vhd import Coalesce, CreateChild, SwitchTapdisk

MAX_CHAIN = 30  # xapi-project/sm, vhdutil.py: MAX_CHAIN_SIZE


class Vhd(Method):
    name = "vhd"

    def why(self, target: Target) -> str:
        return "VHD under tapdisk: vhd-util, never run on a real host"

    def create(self, target: Target) -> Held:
        draft, disk = target.draft, target.disk
        draft.untested.append(self.name)
        if disk.format != "vhd" or disk.backend != "tap":
            target.refuse(
                "vhd needs a VHD image under tapdisk", f"{target.vdev} is {disk.format} on {disk.backend}", ""
            )
        if len(list(draft.facts.chain(disk.path))) >= MAX_CHAIN:
            target.refuse(
                "the chain is too long", f"{disk.path} has {MAX_CHAIN} images in its chain", "delete a snapshot"
            )
        pid, _, minor = disk.device.partition("/")
        aside, child = (
            names.frozen(disk.path, target.snapshot),
            names.new(disk.path, target.snapshot, target.draft.facts),
        )
        link = draft.add(FreezeName(target.vdev, disk.path, aside), "ready")
        switch = SwitchTapdisk(target.vdev, disk.path, aside, child, pid, minor)
        draft.add(switch, "storage", undo_when="held", guards=[link])
        draft.stop(100, 2000, "")
        return target.hold(self.name, aside)

    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        draft, disk = target.draft, target.disk
        draft.untested.append(self.name)
        if draft.facts.image(held.holder) is None:
            target.refuse(
                "the snapshot has lost a disk", f"{held.holder}, the frozen image of {held.vdev}, is not there"
            )
            return None
        child = names.new(disk.path, target.snapshot, target.draft.facts)
        made = draft.add(CreateChild(target.vdev, held.holder, child), "ready")
        return swap(target, child, [made], present, keep, self.name)

    def delete(self, target: Target, held: Held, record: Record) -> None:
        draft, facts = target.draft, target.draft.facts
        draft.untested.append(self.name)
        children = facts.children(held.holder)
        if children and (len(children) > 1 or draft.domain.domid is not None):
            target.refuse(
                "other things need this snapshot's image",
                f"{held.holder} is the parent of {', '.join(child.path for child in children)}",
                f"delete the snapshots made since, and shut {draft.domain.name} down",
            )
            return
        if children:
            draft.add(Coalesce(target.vdev, children[0].path, held.holder), "settle")
        else:
            draft.add(RemoveImage(target.vdev, held.holder), "remove")
        draft.destroys.append(f"{target.vdev}: {held.holder}")
