"""The methods `reflink` and `copy`: a second file with the content of a raw image."""

from __future__ import annotations

from planner import names
from planner.facts import Held, Record
from planner.methods.method import Method, Target, swap
from planner.operations.files import AwaitCopy, CopyFile, PrepareCopy, SyncFile, backup_action
from planner.operations.overlay import RemoveImage

_RATE = (100 * 2**20, 500 * 2**20)  # bytes a second that a copy is taken to run at, slow and fast
_GIB = 2**30


def _refuse(target: Target, method: str) -> None:
    disk = target.disk
    if disk.format != "raw":
        target.refuse(
            f"{method} needs a raw image",
            f"{target.vdev} is {disk.format}, and QEMU keeps parts of it in memory: a copy would not be whole",
            "use `internal` or `external`",
        )
    elif disk.volume or disk.path.startswith("/dev/"):
        target.refuse(
            f"{method} needs an image file",
            f"{disk.path} is a block device: no file can take over its name",
            "use `lvm`" if disk.volume else "use `exclude`, with a reason",
        )


class Reflink(Method):
    name = "reflink"

    def why(self, target: Target) -> str:
        return "raw file, blocks can be shared: cp --reflink"

    def create(self, target: Target) -> Held:
        draft, disk = target.draft, target.disk
        _refuse(target, self.name)
        filesystem = draft.facts.filesystem(disk.path)
        if filesystem and not filesystem.reflink:
            target.refuse(
                "the filesystem cannot share blocks",
                f"{filesystem.mount} is {filesystem.type} without reflinks",
                "use `copy`, which stops the guest for longer",
            )
        aside = names.frozen(disk.path, target.snapshot)
        draft.add(CopyFile(target.vdev, disk.path, aside, reflink=True), "storage")
        draft.add(SyncFile(target.vdev, aside), "settle")
        draft.stop(10, 200 + disk.capacity / _GIB, "")
        return target.hold(self.name, aside)

    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        return _bring_back(target, held, present, keep, reflink=True)

    def delete(self, target: Target, held: Held, record: Record) -> None:
        _remove(target, held)


class Copy(Method):
    name = "copy"

    def why(self, target: Target) -> str:
        if self._job(target):
            return "raw, QEMU serves it (qdisk): copied by a job while the guest runs"
        return f"raw on {target.disk.backend}: copied while the guest stands still"

    def create(self, target: Target) -> Held:
        draft, disk, image = target.draft, target.disk, target.image
        _refuse(target, self.name)
        copy = f"{draft.folder}/{target.vdev}.raw"
        used = min(image.allocated, disk.capacity) if image else disk.capacity
        draft.need(copy, disk.capacity if self._job(target) else used, f"{target.vdev} copy")
        if self._job(target):
            self._start_job(target, copy)
        else:
            draft.add(CopyFile(target.vdev, disk.path, copy, reflink=False), "storage")
            draft.add(SyncFile(target.vdev, copy), "settle")
            low, high = used / _RATE[1] * 1000, used / _RATE[0] * 1000
            draft.stop(low, high, f"copying {target.vdev} at an assumed 100-500 MiB/s")
            target.warn(f"the guest stands still while {-(-used // 2**20)} MiB are copied")
        return target.hold(self.name, copy)

    def _start_job(self, target: Target, copy: str) -> None:
        draft, disk = target.draft, target.disk
        if draft.live and draft.domain.type == "hvm":
            target.refuse(
                "no copy job in a live capture of an HVM domain",
                "its images are inactive at the point where the job would start",
                "use `capture: paused`",
            )
        node, job = (make(draft.domain, target.snapshot, target.vdev) for make in (names.node, names.job))
        made = draft.add(PrepareCopy(target.vdev, target.monitor, copy, node, disk.capacity), "ready")
        draft.transact(backup_action(target.vdev, target.monitor, target.node, node, job), [made])
        draft.add(AwaitCopy(target.vdev, target.monitor, job, node, copy), "jobs")

    def _job(self, target: Target) -> bool:
        return target.disk.backend == "qdisk" and bool(target.node)

    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        return _bring_back(target, held, present, keep, reflink=False)

    def delete(self, target: Target, held: Held, record: Record) -> None:
        _remove(target, held)


def _bring_back(target: Target, held: Held, present: str, keep: bool, *, reflink: bool) -> Held | None:
    image = target.draft.facts.image(held.holder)
    if image is None:
        target.refuse("the snapshot has lost a disk", f"{held.holder}, the copy of {held.vdev}, is not there")
        return None
    new = names.new(target.disk.path, target.snapshot, target.draft.facts)
    # Durable before it takes over the path: after a power cut it is all that the domain has there.
    made = target.draft.add(CopyFile(target.vdev, held.holder, new, reflink, durable=True), "ready")
    if not reflink:
        target.draft.need(target.disk.path, image.allocated, f"{target.vdev} copied back")
    return swap(target, new, [made], present, keep, held.method)


def _remove(target: Target, held: Held) -> None:
    if target.draft.facts.image(held.holder) is None:
        target.warn(f"{held.holder} is gone already")
    target.draft.add(RemoveImage(target.vdev, held.holder), "remove")
    target.draft.destroys.append(f"{target.vdev}: {held.holder}")
