"""Internal snapshots of qcow2 images: by QMP where a QEMU has the image open, by qemu-img where none does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.commands import Command, Qmp, Run, literal
from planner.operations.domain import absent
from planner.operations.overlay import OnDisk
from planner.operations.transaction import Action

# QEMU's and qemu-img's words for a tag that is not there (block/snapshot.c, qemu-img.c; seen on 7.2).
NO_TAG = "does not exist|snapshot not found|Can't find the snapshot"


def tag_action(vdev: str, monitor: str, node: str, tag: str, image: str) -> Action:
    """Return the action that makes the internal snapshot `tag` in the image at `node`, a root node."""
    named = {"device": node, "name": tag}
    offline = ("qemu-img", "snapshot", "-d", tag, "--", image)
    return Action(
        vdev,
        f"{vdev}: internal snapshot {tag}",
        "blockdev-snapshot-internal-sync",
        named,
        node,
        (Qmp(monitor, "blockdev-snapshot-delete-internal-sync", named, tolerates=NO_TAG, offline=offline),),
    )


@dataclass(frozen=True, slots=True)
class TagImage(OnDisk):
    """Make an internal snapshot in an image that no QEMU is using: the domain is gone, or QEMU has made it inactive.

    monitor, node: where to prove that QEMU has made its images inactive (QEMU 10 says so), and by which name the image
    is its own again once the guest runs; "" for a domain that is gone.
    """

    image: str
    tag: str
    monitor: str = ""
    node: str = ""

    def title(self) -> str:
        return f"{self.vdev}: internal snapshot {self.tag} of {self.image}"

    def why(self) -> str:
        return (
            "QEMU has handed the image over: qemu-img does it"
            if self.monitor
            else "no QEMU has it open: qemu-img does it"
        )

    def do(self) -> Iterator[Command]:
        if self.monitor:
            yield Qmp(self.monitor, "query-block", prints='"active":false', lacks='"active":true')
        yield Run(("qemu-img", "snapshot", "-c", self.tag, "--", self.image))

    def undo(self) -> Iterator[Command]:
        argv = ("qemu-img", "snapshot", "-d", self.tag, "--", self.image)
        if self.monitor:
            named = {"device": self.node, "name": self.tag}
            yield Qmp(self.monitor, "blockdev-snapshot-delete-internal-sync", named, tolerates=NO_TAG, offline=argv)
        else:
            yield Run(argv, tolerates=NO_TAG)


@dataclass(frozen=True, slots=True)
class ApplyTag(OnDisk):
    """Bring an image back to one of its internal snapshots; `kept` is the tag of the present, "" if it is given up."""

    image: str
    tag: str
    kept: str

    effect = "change"

    def title(self) -> str:
        return f"{self.vdev}: bring {self.image} back to its snapshot {self.tag}"

    def why(self) -> str:
        return "no QEMU has it open: qemu-img does it (QMP has no revert without memory)"

    def checks(self) -> Iterator[Command]:
        yield has_tag(self.image, self.tag)

    def do(self) -> Iterator[Command]:
        yield Run(("qemu-img", "snapshot", "-a", self.tag, "--", self.image))

    def undo(self) -> Iterator[Command]:
        if self.kept:
            yield Run(("qemu-img", "snapshot", "-a", self.kept, "--", self.image))


@dataclass(frozen=True, slots=True)
class ExtractTag(OnDisk):
    """Copy an internal snapshot out into a new image: its image is frozen, or has children that need it as it is."""

    image: str
    tag: str
    new: str
    like: str

    def title(self) -> str:
        return f"{self.vdev}: copy snapshot {self.tag} of {self.image} into a new image"

    def why(self) -> str:
        return "the image is frozen or has children that need it as it is: it is read, never written"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.new)
        yield has_tag(self.image, self.tag)

    def do(self) -> Iterator[Command]:
        yield Run(("qemu-img", "convert", "-U", "-l", f"snapshot.name={self.tag}", "-f", "qcow2", "-O", "qcow2",
                   "--", self.image, self.new))  # fmt: skip
        yield Run(("cp", "--attributes-only", "--preserve=all", "--", self.like, self.new))

    def undo(self) -> Iterator[Command]:
        yield Run(("rm", "-f", "--", self.new))


@dataclass(frozen=True, slots=True)
class DeleteTag(OnDisk):
    """Delete an internal snapshot; `monitor` is "" where no QEMU has the image open."""

    effect = "destroy"
    image: str
    tag: str
    monitor: str
    node: str

    def title(self) -> str:
        return f"{self.vdev}: delete the internal snapshot {self.tag} of {self.image}"

    def why(self) -> str:
        return "QEMU has the image open: QMP does it" if self.monitor else "no QEMU has it open: qemu-img does it"

    def do(self) -> Iterator[Command]:
        if self.monitor:
            named = {"device": self.node, "name": self.tag}
            yield Qmp(self.monitor, "blockdev-snapshot-delete-internal-sync", named, tolerates=NO_TAG)
        else:
            yield Run(("qemu-img", "snapshot", "-d", self.tag, "--", self.image), tolerates=NO_TAG)


def has_tag(image: str, tag: str) -> Run:
    """Return the command that proves that an image holds an internal snapshot of this name."""
    return Run(("qemu-img", "info", "-U", "--output=json", "--", image), prints=f'^ *"name": "{literal(tag)}",?$')
