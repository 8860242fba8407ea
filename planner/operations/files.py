"""Copies of raw images: shared blocks where the filesystem can, else a copy of the stopped disk, or a QEMU job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.commands import AwaitJob, Command, Qmp, Run, literal
from planner.operations.domain import absent
from planner.operations.overlay import OnDisk
from planner.operations.transaction import Action


@dataclass(frozen=True, slots=True)
class CopyFile(OnDisk):
    """Copy a raw image to a new file, owner and mode included; `reflink` shares the blocks, at once and for nothing.
    durable: sync it too, which takes a while; cp does not."""

    source: str
    copy: str
    reflink: bool
    durable: bool = False

    def title(self) -> str:
        return f"{self.vdev}: {'reflink' if self.reflink else 'copy'} {self.source} to {self.copy}"

    def why(self) -> str:
        if self.reflink:
            return "a raw file on a filesystem that shares blocks: at once, and without space"
        return "a raw image on a backend that QEMU does not serve: all of it is copied"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.copy)

    def do(self) -> Iterator[Command]:
        how = ("--reflink=always",) if self.reflink else ("--reflink=never", "--sparse=always")
        yield Run(("cp", *how, "--preserve=all", "-T", "--", self.source, self.copy))
        if self.durable:
            yield Run(("sync", "--", self.copy))

    def undo(self) -> Iterator[Command]:
        yield Run(("rm", "-f", "--", self.copy))


@dataclass(frozen=True, slots=True)
class SyncFile(OnDisk):
    """Make a file durable, while the guest runs again."""

    effect = "change"
    path: str

    def title(self) -> str:
        return f"{self.vdev}: sync {self.path}"

    def do(self) -> Iterator[Command]:
        yield Run(("sync", "--", self.path))


@dataclass(frozen=True, slots=True)
class PrepareCopy(OnDisk):
    """Make the file a QEMU job copies a raw disk into, and open it in QEMU. capacity: bytes."""

    monitor: str
    copy: str
    node: str
    capacity: int

    def title(self) -> str:
        return f"{self.vdev}: make {self.copy} for the copy, and open it in QEMU"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.copy)
        yield Qmp(self.monitor, "query-named-block-nodes", lacks=literal(f'"node-name":"{self.node}"'))

    def do(self) -> Iterator[Command]:
        yield Run(("qemu-img", "create", "-q", "-f", "raw", "--", self.copy, str(self.capacity)))
        file = {"driver": "file", "filename": self.copy}
        yield Qmp(self.monitor, "blockdev-add", {"driver": "raw", "node-name": self.node, "file": file})

    def undo(self) -> Iterator[Command]:
        node = {"node-name": self.node}
        yield Qmp(self.monitor, "blockdev-del", node, tolerates="Failed to find node", transient=True)
        yield Run(("rm", "-f", "--", self.copy))


def backup_action(vdev: str, monitor: str, node: str, target: str, job: str) -> Action:
    """Return the action that starts the copy of `node` as it is at that instant into the node `target`."""
    running = ("query-jobs", literal(f'"id":"{job}"'))
    concluded = literal(f'"id":"{job}","status":"concluded"')
    return Action(
        vdev,
        f"{vdev}: start the copy",
        "blockdev-backup",
        {"job-id": job, "device": node, "target": target, "sync": "full", "auto-dismiss": False},
        node,
        (
            Qmp(monitor, "job-cancel", {"id": job}, tolerates="not found|concluded", when=running, transient=True),
            Qmp(monitor, "query-jobs", prints=concluded, within=60, when=running, transient=True),
            Qmp(monitor, "job-dismiss", {"id": job}, tolerates="not found", when=running, transient=True),
        ),
    )


@dataclass(frozen=True, slots=True)
class AwaitCopy(OnDisk):
    """Wait for a copy job, while the guest runs: QEMU copies each block before the guest overwrites it."""

    effect = "change"
    monitor: str
    job: str
    node: str
    copy: str

    def title(self) -> str:
        return f"{self.vdev}: wait for the copy to end, while the guest runs"

    def do(self) -> Iterator[Command]:
        yield AwaitJob(self.monitor, self.job)
        yield Qmp(self.monitor, "blockdev-del", {"node-name": self.node})
        yield Run(("sync", "--", self.copy))
