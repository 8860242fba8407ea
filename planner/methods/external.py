"""The method `external`: the image is frozen under a name of its own, an overlay takes over its path."""

from __future__ import annotations

from planner import names
from planner.facts import Held, Image, Record
from planner.methods.method import Method, Target, holders, swap, warn_of_children
from planner.operations.overlay import (
    AddOverlay,
    CreateOverlay,
    FreezeName,
    Rebase,
    RemoveImage,
    StreamDown,
    TakePath,
    TeachName,
    snapshot_action,
)

_OVERLAY = 2**20  # an empty qcow2 overlay takes 200 KiB; a mebibyte is asked for
_LONG_CHAIN = 20
_REOPENS = (6, 1)  # the QEMU that has blockdev-reopen
_UNLOCKED = (9,)  # the QEMU that does without locks of iothreads: what it drops in a blockdev-reopen cannot end it


class External(Method):
    name = "external"

    def why(self, target: Target) -> str:
        return "QEMU serves it (qdisk): overlay by QMP"

    def create(self, target: Target) -> Held:
        draft, disk, facts = target.draft, target.disk, target.draft.facts
        aside, overlay = (
            names.frozen(disk.path, target.snapshot),
            names.new(disk.path, target.snapshot, target.draft.facts),
        )
        node = names.node(draft.domain, target.snapshot, target.vdev)
        self._refuse(target, aside)
        link = draft.add(FreezeName(target.vdev, disk.path, aside), "ready")
        made = draft.add(CreateOverlay(target.vdev, aside, overlay, disk.path, disk.capacity), "ready", guards=[])
        opened = draft.add(AddOverlay(target.vdev, target.monitor, overlay, node), "ready", guards=[made])
        job = names.job(draft.domain, target.snapshot, target.vdev)
        action = snapshot_action(target.vdev, target.monitor, target.node, node, overlay, job)
        draft.transact(action, [link, made, opened])
        draft.add(TakePath(target.vdev, disk.path, aside, overlay), "rename", undo_when="held", guards=[link, made])
        draft.need(disk.path, _OVERLAY, f"{target.vdev} overlay")
        draft.move(disk.path, aside)
        warn_of_children(target)
        depth = len(list(facts.chain(disk.path))) + 1
        if depth >= _LONG_CHAIN:
            target.warn(f"its chain will be {depth} images long; delete old snapshots to keep reads fast")
        return target.hold(self.name, aside)

    def _refuse(self, target: Target, aside: str) -> None:
        disk, domain, facts = target.disk, target.draft.domain, target.draft.facts
        if disk.format != "qcow2":
            target.refuse(
                "an external snapshot needs a qcow2 image",
                f"{target.vdev} is {disk.format}: its configuration would open the overlay as {disk.format}",
                "use `reflink`, `copy` or `lvm`",
            )
        elif disk.backend != "qdisk" or not target.node:
            target.refuse_unserved()
        elif disk.volume or disk.path.startswith("/dev/"):
            target.refuse(
                "an external snapshot needs an image file",
                f"{disk.path} is a block device: no overlay can take over its name",
                "use `internal`",
            )
        elif domain.qemu and domain.qemu.chrooted:
            target.refuse(
                "the device model is chrooted",
                f"the QEMU of {domain.name} cannot open a file made now",
                "use `internal`",
            )
        filesystem = facts.filesystem(disk.path)
        if filesystem and not filesystem.hard_links:
            target.refuse(
                "the filesystem has no hard links",
                f"{filesystem.mount} ({filesystem.type}) cannot keep {disk.path} under a second name",
                "use `internal`",
            )
        if facts.image(aside):
            target.refuse("a file is in the way", f"{aside} exists already", "choose another name for the snapshot")

    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        draft, disk = target.draft, target.disk
        image = draft.facts.image(held.holder)
        if image is None:
            target.refuse(
                "the snapshot has lost a disk", f"{held.holder}, the frozen image of {held.vdev}, is not there"
            )
            return None
        overlay = names.new(disk.path, target.snapshot, target.draft.facts)
        made = draft.add(CreateOverlay(target.vdev, image.path, overlay, disk.path, image.capacity), "ready")
        draft.need(disk.path, _OVERLAY, f"{target.vdev} overlay")
        return swap(target, overlay, [made], present, keep, self.name)

    def delete(self, target: Target, held: Held, record: Record) -> None:
        image = target.draft.facts.image(held.holder)
        if image is None:
            target.warn(f"{held.holder} is gone already")
        else:
            drop(target, image, record)


def drop(target: Target, image: Image, record: Record) -> None:
    """Lay down the removal of an image: what its one child needs is copied down into that child first.

    Refuses, with the blockers named, when somebody else needs it: another snapshot, a second child, another domain.
    """
    facts = target.draft.facts
    blockers: list[str] = []
    blockers += [
        f"the disk {disk.vdev} of {who.name}" for who, disk in facts.users(image.path) if disk.path == image.path
    ]
    children = facts.children(image.path)
    strangers = [child for child in children if _stranger(target, child)]
    blockers += [f"the image {child.path}" for child in (children if len(children) > 1 else strangers)]
    # What a tag's disk never wrote it reads from the image's backing file of today, whatever is copied into the image.
    blockers += [f"the internal snapshot {tag} inside {child.path}" for child in children for tag in child.snapshots]
    if blockers:
        target.refuse(
            "other things need this snapshot's image",
            f"{image.path} is needed by {', '.join(dict.fromkeys(blockers))}",
            _advice(target, children),
        )
        return
    if children:
        _copy_down(target, image, children[0])
    others = holders(target, image.path, record)
    if others:
        target.warn(f"{image.path} stays for now: {', '.join(others)} lives in it")
        return
    target.draft.add(RemoveImage(target.vdev, image.path), "remove")
    target.draft.destroys.append(f"{target.vdev}: {image.path}")


def _stranger(target: Target, child: Image) -> bool:
    """Whether an image is neither this domain's disk nor held by a snapshot of it."""
    facts, domain = target.draft.facts, target.draft.domain
    users = [who.name for who, _ in facts.users(child.path)]
    held = any(h.holder == child.path for record in facts.records_of(domain.name) for h in record.disks)
    return any(name != domain.name for name in users) or not (users or held)


def _advice(target: Target, children: list[Image]) -> str:
    facts, domain = target.draft.facts, target.draft.domain
    paths = {child.path for child in children}
    tags = [tag for child in children for tag in child.snapshots]
    of = tags or [r.snapshot for r in facts.records_of(domain.name) if any(h.holder in paths for h in r.disks)]
    return f"delete {', '.join(dict.fromkeys(of))} first" if of else "remove what needs it first"


def _copy_down(target: Target, image: Image, child: Image) -> None:
    draft, domain, facts = target.draft, target.draft.domain, target.draft.facts
    draft.need(child.path, image.allocated, f"{target.vdev} data copied down")
    using = next(((who, disk) for who, disk in facts.users(child.path) if who.qemu), None)
    if using is None:
        draft.add(Rebase(target.vdev, child.path, image.path, image.backing), "settle")
        return
    nodes = using[1].nodes
    at = next((index for index, node in enumerate(nodes) if node.path == child.path), None)
    if at is None or domain.qemu is None or [node.path for node in nodes[at + 1 : at + 2]] != [image.path]:
        target.refuse(
            "QEMU's graph does not show this image",
            f"{child.path} is open in the QEMU of {using[0].name}, but not as a node over {image.path}",
            f"shut {using[0].name} down, and delete then",
        )
        return
    if at > 0 and nodes[at].file != nodes[at].path:
        if domain.qemu.release < _REOPENS:
            target.refuse(
                "QEMU knows this image by another file's name",
                f"{child.path} was opened as {nodes[at].file}, which is another image today, and"
                f" QEMU {domain.qemu.version} cannot be told",
                f"delete the snapshot of {child.path} first, or shut {domain.name} down and delete then",
            )
            return
        locks = domain.qemu.release < _UNLOCKED
        held = nodes[at].file_node if locks else ""
        if locks and not held:
            target.refuse(
                "QEMU knows this image by another file's name",
                f"{child.path} was opened as {nodes[at].file}, which is another image today, and these facts do not say"
                f" by which node QEMU {domain.qemu.version} has it open",
                f"observe {domain.name} anew, with this version of domsnap",
            )
            return
        file_node = names.node(domain, f"file {child.path}", target.vdev)
        holder = names.node(domain, f"held {child.path}", target.vdev)
        teach = TeachName(
            target.vdev, target.monitor, nodes[at].name, file_node, child.path, nodes[at].file, nodes[at + 1].name,
            held, holder,
        )  # fmt: skip
        draft.add(teach, "jobs")
    below = at + 2
    base_node = nodes[below].name if below < len(nodes) else ""
    job = names.job(domain, target.snapshot, target.vdev)
    draft.add(
        StreamDown(target.vdev, target.monitor, nodes[at].name, child.path, image.path, base_node, image.backing, job),
        "jobs",
    )
