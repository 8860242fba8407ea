"""External snapshots of qcow2 files: the image keeps its content under a frozen name, an overlay takes over its path.

A guest that reboots opens the path in its configuration. So the overlay must have that path before the guest runs
again; seen on a real host, the guest's own reboot then opens the overlay with all its data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.commands import AwaitJob, Command, Qmp, Rename, Run, literal
from planner.operation import Operation
from planner.operations.domain import absent
from planner.operations.transaction import Action


@dataclass(frozen=True, slots=True)
class OnDisk(Operation):
    """An operation on one disk."""

    vdev: str

    def subject(self) -> str:
        return self.vdev


@dataclass(frozen=True, slots=True)
class FreezeName(OnDisk):
    """Give an image file a second, lasting name by a hard link."""

    path: str
    frozen: str

    def title(self) -> str:
        return f"{self.vdev}: link {self.path} to {self.frozen}"

    def why(self) -> str:
        return "the image keeps its content under that name when its path is taken over"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.frozen)

    def do(self) -> Iterator[Command]:
        yield Run(("ln", "--", self.path, self.frozen))

    def undo(self) -> Iterator[Command]:
        # Only while both names are the same file: otherwise this one is the only name of the guest's data.
        yield Run(("rm", "--", self.frozen), when=("test", self.frozen, "-ef", self.path))


@dataclass(frozen=True, slots=True)
class CreateOverlay(OnDisk):
    """Make an empty qcow2 overlay with the owner, mode and labels of the image that it stands in for.

    `-u` with the size said: qemu-img must not open an image that a guest writes to. capacity: bytes.
    """

    backing: str
    overlay: str
    like: str
    capacity: int

    def title(self) -> str:
        return f"{self.vdev}: make an overlay on {self.backing}"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.overlay)
        yield Run(("test", "-f", self.backing))

    def do(self) -> Iterator[Command]:
        yield Run(("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", self.backing, "-F", "qcow2",
                   "--", self.overlay, str(self.capacity)))  # fmt: skip
        yield Run(("cp", "--attributes-only", "--preserve=all", "--", self.like, self.overlay))

    def undo(self) -> Iterator[Command]:
        yield Run(("rm", "-f", "--", self.overlay))


@dataclass(frozen=True, slots=True)
class AddOverlay(OnDisk):
    """Open the overlay in QEMU, backing left out: the transaction sets it."""

    monitor: str
    overlay: str
    node: str

    def title(self) -> str:
        return f"{self.vdev}: open the overlay in QEMU as {self.node}"

    def why(self) -> str:
        return "so that nothing is left for the transaction to do but to switch over"

    def checks(self) -> Iterator[Command]:
        known = f'"node-name":"{literal(self.node)}"|"file":"{literal(self.overlay)}"'
        yield Qmp(self.monitor, "query-named-block-nodes", lacks=known)

    def do(self) -> Iterator[Command]:
        file = {"driver": "file", "filename": self.overlay}
        arguments = {"driver": "qcow2", "node-name": self.node, "backing": None, "file": file, "discard": "unmap"}
        yield Qmp(self.monitor, "blockdev-add", arguments)

    def undo(self) -> Iterator[Command]:
        node = {"node-name": self.node}
        yield Qmp(self.monitor, "blockdev-del", node, tolerates="Failed to find node", transient=True)


def snapshot_action(vdev: str, monitor: str, node: str, overlay_node: str, overlay: str, job: str) -> Action:
    """Return the action that puts `overlay_node` over `node`; its undo commits the overlay back into the image.

    The undo runs after the path is the image's again: QEMU's name of the image is true when it is opened for writing.
    """
    there = ("query-block", literal(f'"node-name":"{overlay_node}"'))
    offline = ("qemu-img", "commit", "-q", "-f", "qcow2", "--", overlay)
    commit = {"job-id": job, "device": overlay_node, "base-node": node, "auto-dismiss": False}
    return Action(
        vdev,
        f"{vdev}: switch to the overlay",
        "blockdev-snapshot",
        {"node": node, "overlay": overlay_node},
        node,
        (
            Qmp(monitor, "block-commit", commit, when=there, offline=offline),
            AwaitJob(monitor, job, complete=True, optional=True),
            Qmp(monitor, "query-block", lacks=literal(f'"node-name":"{overlay_node}"')),
        ),
        rehearsed=True,
    )


@dataclass(frozen=True, slots=True)
class TakePath(OnDisk):
    """Let a new image take over the disk's path from the image that is frozen under another name."""

    effect = "change"
    path: str
    frozen: str
    new: str

    def title(self) -> str:
        return f"{self.vdev}: the new image takes over {self.path}"

    def why(self) -> str:
        return "before the guest runs: a reboot opens the path in its configuration, and must not open the frozen image"

    def do(self) -> Iterator[Command]:
        yield Rename(self.new, self.path)

    def undo(self) -> Iterator[Command]:
        back = f"{self.new}.back"
        yield Run(("ln", "--", self.path, self.new), unless=("test", "-e", self.new))
        yield Run(("ln", "-f", "--", self.frozen, back))
        yield Rename(back, self.path)
        yield Run(("rm", "-f", "--", back))  # rename of two names of one file leaves both (rename(2))


@dataclass(frozen=True, slots=True)
class TeachName(OnDisk):
    """Give a frozen image in QEMU's graph the name that it has today.

    Whenever QEMU changes a node between reading and writing it opens the file by the name it knows; for an image whose
    path was taken over that is another image, which a job would overwrite while reporting success. Seen on QEMU 7.2 and
    10.0, and so is this way out: a file node of the true name put under the image by blockdev-reopen (QEMU 6.1).

    held: the file node that the image has until then, where it must not go away in the middle of that: on a disk with
    an iothread, as Xen's are, QEMU aborted ("qemu_mutex_unlock_impl: Operation not permitted", seen on 7.2; the lock
    is gone since 9.0). A node over it, `holder`, keeps it until it can be let go.
    """

    effect = "change"
    monitor: str
    node: str
    file_node: str
    image: str
    stale: str
    backing_node: str
    held: str
    holder: str

    def title(self) -> str:
        return f"{self.vdev}: let QEMU open {self.image} by its name of today"

    def why(self) -> str:
        return f"QEMU still knows it as {self.stale}, which is another image now, and would write to that one"

    def do(self) -> Iterator[Command]:
        file = {"driver": "file", "node-name": self.file_node, "filename": self.image}
        yield Qmp(self.monitor, "blockdev-add", {**file, "auto-read-only": True, "locking": "off"})
        options = {"driver": "qcow2", "node-name": self.node, "read-only": True, "discard": "unmap"}
        options |= {"backing": self.backing_node, "file": self.file_node}
        if self.held:
            holder = {"driver": "raw", "node-name": self.holder, "read-only": True, "file": self.held}
            yield Qmp(self.monitor, "blockdev-add", holder)
        yield Qmp(self.monitor, "blockdev-reopen", {"options": [options]})
        if self.held:
            yield Qmp(self.monitor, "blockdev-del", {"node-name": self.holder})

    def after(self) -> Iterator[Command]:
        known, stale = (literal(f'"file":"{name}"') for name in (self.image, self.stale))
        yield Qmp(self.monitor, "query-named-block-nodes", prints=known, lacks=stale)


@dataclass(frozen=True, slots=True)
class StreamDown(OnDisk):
    """Copy what a running guest's image needs of its backing image into it, so that the backing image can go.

    The backing file is said with its absolute path and the header read back after: QEMU's own notion of file names is
    that of the moment it opened them, and left to itself it was seen to make an image its own backing file.
    """

    effect = "change"
    monitor: str
    node: str
    image: str
    gone: str
    base_node: str
    base: str
    job: str

    def title(self) -> str:
        return f"{self.vdev}: copy the data of {self.gone} into {self.image}"

    def why(self) -> str:
        return "QEMU has the image open: a block-stream job does it while the guest runs"

    def checks(self) -> Iterator[Command]:
        yield Qmp(self.monitor, "query-named-block-nodes", prints=literal(f'"node-name":"{self.node}"'))

    def do(self) -> Iterator[Command]:
        arguments = {"job-id": self.job, "device": self.node, "auto-dismiss": False, "auto-finalize": False}
        if self.base:
            arguments |= {"base-node": self.base_node, "backing-file": self.base}
        # Seen on QEMU 7.2: the job ends, and drops the backing file, with what it copied not yet on disk. QMP has no
        # flush; the human monitor's qemu-io has, and answers "" when it worked.
        flush = Qmp(
            self.monitor, "human-monitor-command", {"command-line": f"qemu-io {self.node} flush"}, prints='^""$'
        )
        yield Qmp(self.monitor, "block-stream", arguments)
        yield AwaitJob(self.monitor, self.job, pending=True)
        yield flush
        yield Qmp(self.monitor, "job-finalize", {"id": self.job})
        yield AwaitJob(self.monitor, self.job)
        yield flush

    def after(self) -> Iterator[Command]:
        yield backed_by(self.image, self.base)


@dataclass(frozen=True, slots=True)
class Rebase(OnDisk):
    """Copy what an image needs of its backing image into it, with qemu-img: no QEMU has it open."""

    effect = "change"
    image: str
    gone: str
    base: str

    def title(self) -> str:
        return f"{self.vdev}: copy the data of {self.gone} into {self.image}"

    def why(self) -> str:
        return "no QEMU has the image open: qemu-img does it"

    def do(self) -> Iterator[Command]:
        kind = ("-F", "qcow2") if self.base else ()
        yield Run(("qemu-img", "rebase", "-q", "-f", "qcow2", "-b", self.base, *kind, "--", self.image))

    def after(self) -> Iterator[Command]:
        yield backed_by(self.image, self.base)


def backed_by(image: str, base: str) -> Run:
    """Return the command that proves which backing file the header of `image` names; "" for none."""
    argv = ("qemu-img", "info", "-U", "--output=json", "--", image)
    if not base:
        return Run(argv, lacks='^ *"backing-filename": ')
    return Run(argv, prints=f'^ *"backing-filename": "{literal(base)}",?$')


@dataclass(frozen=True, slots=True)
class RemoveImage(OnDisk):
    """Remove an image file that nothing needs any more."""

    effect = "destroy"
    image: str

    def title(self) -> str:
        return f"{self.vdev}: remove {self.image}"

    def do(self) -> Iterator[Command]:
        yield Run(("rm", "-f", "--", self.image))
