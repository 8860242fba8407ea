"""A store made for real: memory images, digests, qcow2 images and copies, and the records that name them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from planner.facts import Held, Record
from planner.operations.store import document
from tests.executor.test_stream import image

MIB = 2**20
UUID = "bbe9b839-51d1-4ac0-8ea2-25778e7005b1"


def qemu_img(*words: str | Path) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


def write(path: Path, pattern: int, offset: str = "0", length: str = "512k") -> None:
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {offset} {length}", path], check=True, capture_output=True
    )


@dataclass(frozen=True, slots=True)
class Store:
    """A store below `root`, and a folder for images beside it."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "store"

    @property
    def images(self) -> Path:
        folder = self.root / "images"
        folder.mkdir(exist_ok=True)
        return folder

    def folder(self, snapshot: str, domain: str = "web01") -> Path:
        return self.path / domain / snapshot

    def put(self, snapshot: str, disks: Iterable[Held] = (), domain: str = "web01", **more: object) -> Record:
        """Write a snapshot as a plan does: memory, digest, record."""
        folder = self.folder(snapshot, domain)
        folder.mkdir(parents=True)
        memory = folder / "memory"
        data = image(pages=8)
        memory.write_bytes(data)
        Path(f"{memory}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {memory}\n")
        record = Record(
            domain, UUID, "pvh", snapshot, str(folder), tuple(disks), "2026-11-23T07:34:00Z", memory=str(memory),
            memory_size=1024 * MIB, xen="4.17.7",
        )  # fmt: skip
        record = replace(record, **more)  # type: ignore[arg-type]
        self.write(record)
        return record

    def write(self, record: Record) -> None:
        Path(record.folder, "record.json").write_text(document(record))

    def current(self, snapshot: str, domain: str = "web01") -> None:
        (self.path / domain / "current").write_text(f"{snapshot}\n")

    def internal(self, tag: str, vdev: str = "xvda") -> Held:
        path = self.images / f"{vdev}.qcow2"
        if not path.exists():
            qemu_img("create", "-q", "-f", "qcow2", path, "8M")
            write(path, 1)
        qemu_img("snapshot", "-c", tag, path)
        write(path, 2)
        return Held(vdev, "internal", "qdisk", "qcow2", str(path), 8 * MIB, str(path), tag)

    def external(self, snapshot: str, vdev: str = "xvdb") -> Held:
        """Freeze the image at the disk's path under another name, and put an overlay in its place."""
        path, frozen = self.images / f"{vdev}.qcow2", self.images / f"{vdev}.qcow2.{snapshot}"
        if not path.exists():
            base = self.images / "base.qcow2"
            qemu_img("create", "-q", "-f", "qcow2", base, "8M")
            qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path)
        write(path, 3)
        path.rename(frozen)
        qemu_img("create", "-q", "-f", "qcow2", "-b", frozen, "-F", "qcow2", path)
        return Held(vdev, "external", "qdisk", "qcow2", str(path), 8 * MIB, str(frozen))

    def copy(self, snapshot: str, vdev: str = "xvdc") -> Held:
        folder = self.folder(snapshot)
        path, copy = self.images / f"{vdev}.raw", self.images / f"{vdev}.raw.{snapshot}"
        path.write_bytes(bytes(MIB))
        copy.write_bytes(bytes(MIB))
        assert not folder.exists()
        return Held(vdev, "copy", "phy", "raw", str(path), MIB, str(copy))
