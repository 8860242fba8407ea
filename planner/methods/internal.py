"""The method `internal`: a snapshot inside the qcow2 image."""

from __future__ import annotations

from planner import names
from planner.facts import Held, Image, Record
from planner.methods.method import Method, Target, holders, swap, warn_of_children
from planner.operations.overlay import RemoveImage
from planner.operations.qcow2 import ApplyTag, DeleteTag, ExtractTag, TagImage, tag_action

_LARGE = 512 * 2**30  # bytes in use from which updating the refcounts takes seconds
_GIB = 2**30


class Internal(Method):
    name = "internal"

    def why(self, target: Target) -> str:
        return "QEMU serves it (qdisk): snapshot by QMP"

    def create(self, target: Target) -> Held:
        draft, disk, image = target.draft, target.disk, target.image
        live_hvm = draft.live and draft.domain.type == "hvm"
        if disk.format != "qcow2":
            target.refuse(
                "an internal snapshot needs a qcow2 image",
                f"{target.vdev} is {disk.format}, which has no room for snapshots of its own",
                "use `reflink`, `copy` or `lvm`",
            )
        elif disk.backend != "qdisk" or not target.node:
            target.refuse_unserved()
        if image and target.snapshot in image.snapshots:
            target.refuse(
                "the image has a snapshot of this name",
                f"{disk.path} holds {', '.join(image.snapshots)}",
                "choose another name for the snapshot",
            )
        if live_hvm and draft.domain.qemu and draft.domain.qemu.release < (10,):
            known = draft.domain.qemu.version or "unknown"
            target.refuse(
                "no internal snapshot in a live capture of an HVM domain",
                f"its images are inactive at that point, and only QEMU 10 says so; this is {known}",
                "use `external`, or `capture: paused`",
            )
        if live_hvm:
            tag = TagImage(target.vdev, disk.path, target.snapshot, target.monitor, target.node)
            draft.add(tag, "storage", undo_when="held")
        else:
            draft.transact(tag_action(target.vdev, target.monitor, target.node, target.snapshot, disk.path))
        self._estimate(target, image)
        return target.hold(self.name, disk.path, target.snapshot)

    def _estimate(self, target: Target, image: Image | None) -> None:
        used = image.allocated if image else target.disk.capacity
        # Every L2 table and refcount block of what is in use is written again: about 1-4 ms for a GiB.
        target.draft.stop(used / _GIB, 4 * used / _GIB, "")
        if used >= _LARGE:
            target.warn(
                f"{used // _GIB} GiB in use: an internal snapshot updates all their reference counts while the guest"
                " stands still, for seconds; `external` does not"
            )
        if image and image.backing:
            target.warn(f"the image is an overlay on {image.backing}: this snapshot lives in the overlay alone")
        warn_of_children(target)

    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        draft, disk, facts = target.draft, target.disk, target.draft.facts
        image = find(target, held)
        if image is None:
            target.refuse("the snapshot has lost a disk", f"{held.holder} holds no snapshot {held.tag} any more")
            return None
        if image.path == disk.path and not facts.children(image.path):
            kept = [
                draft.add(TagImage(target.vdev, image.path, present), "storage", undo_when="held") for _ in range(keep)
            ]
            apply = ApplyTag(target.vdev, image.path, held.tag, present if keep else "")
            draft.add(apply, "storage", undo_when="held", guards=kept)
            if not keep:
                draft.destroys.append(f"{target.vdev}: what was written to {disk.path} since the snapshot")
            return target.hold(self.name, image.path, present) if keep else None
        if disk.volume or disk.path.startswith("/dev/"):
            target.refuse(
                "other images need the image of this snapshot as it is",
                f"{image.path} has children, and no other image can take over the block device {disk.path}",
                "delete the snapshots made since first",
            )
            return None
        new = names.new(disk.path, target.snapshot, target.draft.facts)
        active = image.path == disk.path
        made = draft.add(
            ExtractTag(target.vdev, image.path, held.tag, new, disk.path),
            "storage" if active else "ready",
            undo_when="held" if active else "free",
        )
        draft.need(disk.path, min(image.allocated + 2**20, image.capacity), f"{target.vdev} image copied out")
        return swap(target, new, [made], present, keep, "external")

    def delete(self, target: Target, held: Held, record: Record) -> None:
        draft, facts = target.draft, target.draft.facts
        image = find(target, held)
        if image is None:
            target.warn(f"{held.holder} holds no snapshot {held.tag} any more")
            return
        children = facts.children(image.path)
        users = [(who, disk) for who, disk in facts.users(image.path) if who.domid is not None]
        if children or any(disk.path != image.path for _, disk in users):
            blockers = [child.path for child in children] or [disk.path for _, disk in users]
            target.refuse(
                "other images need the image of this snapshot as it is",
                f"{image.path} is the backing file of {', '.join(blockers)}",
                "delete the snapshots made since first",
            )
            return
        live = next((disk.nodes[0].name for who, disk in users if who.qemu and disk.nodes), "")
        if users and not live:
            target.refuse(
                "an image is in use, and no monitor is known",
                f"{image.path} is open for {users[0][0].name}",
                f"shut {users[0][0].name} down, and delete then",
            )
            return
        alone = image.snapshots == (held.tag,) and not holders(target, image.path, record)
        if alone and not any(disk.path == image.path for who in facts.domains for disk in who.disks):
            # A frozen image that was kept for this snapshot alone: all of it goes.
            draft.add(RemoveImage(target.vdev, image.path), "remove")
            draft.destroys.append(f"{target.vdev}: {image.path}")
            return
        draft.add(DeleteTag(target.vdev, image.path, held.tag, target.monitor if live else "", live), "remove")
        draft.destroys.append(f"{target.vdev}: the internal snapshot {held.tag} in {image.path}")


def find(target: Target, held: Held) -> Image | None:
    """Return the image that holds the tag: where the record says, or further down the disk's chain if it was frozen
    and the record could not be rewritten any more."""
    facts = target.draft.facts
    said = facts.image(held.holder)
    if said and held.tag in said.snapshots:
        return said
    return next((image for image in facts.chain(target.disk.path) if held.tag in image.snapshots), None)
