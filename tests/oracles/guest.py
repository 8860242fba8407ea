"""A disk that a real QEMU has open, what a guest wrote to it, and snapshots of it by the operations of a plan."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from planner.operation import Operation
from planner.operations.overlay import AddOverlay, CreateOverlay, FreezeName, TakePath, snapshot_action
from planner.operations.transaction import Rehearse, Transaction
from tests.oracles.machine import Machine
from tests.oracles.perform import perform, run

SIZE = 8 * 2**20
RIGHT = "read 65536/65536 bytes at offset"


def pattern(number: int) -> str:
    """Return what qemu-io is to write or expect for the snapshot of this number: a byte and a place of its own."""
    return f"-P {0x10 + number} {number * 64}k 64k"


@dataclass
class Guest:
    """A disk that QEMU has open, as xen-block opens it or as the emulated drive of an HVM guest, and its snapshots."""

    folder: Path
    qemu: Machine = field(init=False)
    size: int = SIZE
    nodes: list[str] = field(default_factory=lambda: ["n0"])
    done: list[list[Operation]] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "disk.qcow2"

    def frozen(self, snapshot: str) -> Path:
        return self.folder / f"disk.qcow2.{snapshot}"

    def write(self, number: int) -> None:
        assert "wrote 65536/65536" in self.qemu.io(self.nodes[-1], f"write {pattern(number)}")

    def reads(self, *numbers: int) -> bool:
        """Whether the guest, through QEMU, still reads what it wrote."""
        return all(right(self.qemu.io(self.nodes[-1], f"read {pattern(number)}")) for number in numbers)

    def on_disk(self, path: Path, *numbers: int) -> bool:
        """Whether an image and its chain hold what was written, as a restarted QEMU would read it."""
        self.qemu.io(self.nodes[-1], "flush")
        return self.holds(path, *numbers)

    def holds(self, path: Path, *numbers: int) -> bool:
        """The same, and QEMU may be gone."""

        def read(number: int) -> str:
            argv = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", f"read {pattern(number)}", str(path)]
            return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30).stdout

        return all(right(read(number)) for number in numbers)

    def snapshot(self, snapshot: str, passing: str = "", *, heedless: bool = False) -> None:
        """Take an external snapshot with the very operations of a plan; `heedless` of what its checks say."""
        new = passing or f"{self.path}.{snapshot}~new"
        node, frozen = f"n{len(self.nodes)}", str(self.frozen(snapshot))
        action = snapshot_action("xvda", "", self.nodes[-1], node, new, f"job-{node}")
        steps: list[Operation] = [
            FreezeName("xvda", str(self.path), frozen),
            CreateOverlay("xvda", frozen, new, str(self.path), SIZE),
            AddOverlay("xvda", "", new, node),
            Rehearse("", (action,)),
            Transaction("", (action,)),
            TakePath("xvda", str(self.path), frozen, new),
        ]
        for step in steps:
            run(step.do(), self.qemu) if heedless else perform(step, self.qemu)
        self.done.append(steps)
        self.nodes.append(node)

    def stream(self, node: str, backing: dict[str, str] | None = None) -> str:
        """Copy down into `node` without any care, as another tool might; return the error, "" if there was none."""
        self.qemu("block-stream", {"job-id": "j", "device": node, "auto-dismiss": False, **(backing or {})})
        return self.qemu.job("j")


def qemu_img(*argv: str | Path) -> str:
    return subprocess.run(["qemu-img", *argv], check=True, capture_output=True, text=True, timeout=30).stdout


def right(said: str) -> bool:
    """Whether qemu-io read what was expected; it says so even when the pattern was another, which it says before."""
    return RIGHT in said and "failed" not in said


def open_as_xen_does(qemu: Machine, path: Path, *, iothread: bool = False) -> None:
    """Open the disk with the options of QEMU's hw/block/xen-block.c. iothread: and use it from one, as that does; a
    device would not before its guest's driver is up, an export does."""
    file = {"driver": "file", "filename": str(path), "locking": "off", "aio": "threads"}
    qemu("blockdev-add", {"driver": "qcow2", "node-name": "n0", "discard": "unmap", "file": file})
    if iothread:
        qemu("object-add", {"qom-type": "iothread", "id": "io0"})
        qemu("nbd-server-start", {"addr": {"type": "unix", "data": {"path": f"{path.parent.parent}/nbd.sock"}}})
        export = {"type": "nbd", "id": "disk", "node-name": "n0", "writable": True, "iothread": "io0"}
        qemu("block-export-add", {**export, "fixed-iothread": True})
        return
    qemu("device_add", {"driver": "virtio-blk-pci", "id": "disk", "drive": "n0", "share-rw": True})
