"""What is done to a snapshot's folder in the store: made, filled, published last, marked, emptied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from planner.commands import Command, Compact, Rename, Run, Seal, Write
from planner.facts import Record
from planner.operation import Operation
from planner.operations.domain import absent, decompress

VERSION = 1


def document(record: Record) -> str:
    """Return the text of a record, as `schema/record.schema.json` describes it: JSON for people to read."""
    said: dict[str, Any] = {"version": VERSION}
    for item in fields(record):
        value = getattr(record, item.name)
        if item.name == "disks":
            value = [{each.name: getattr(held, each.name) for each in fields(held)} for held in record.disks]
        said[item.name] = value
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class MakeFolder(Operation):
    """Make the snapshot's own folder, mode 0700: memory images hold secrets."""

    parent: str
    folder: str

    def title(self) -> str:
        return f"make the folder {self.folder}"

    def subject(self) -> str:
        return "record"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.folder)

    def do(self) -> Iterator[Command]:
        yield Run(("mkdir", "-p", "-m", "0700", "--", self.parent))
        yield Run(("mkdir", "-m", "0700", "--", self.folder))

    def undo(self) -> Iterator[Command]:
        yield Run(("rmdir", "--", self.folder), when=("test", "-d", self.folder))


@dataclass(frozen=True, slots=True)
class PublishMemory(Operation):
    """Prove the memory image complete, make it durable, note its SHA-256 and give it its name."""

    part: str
    image: str

    def title(self) -> str:
        return "check that the memory image is complete, and give it its name"

    def why(self) -> str:
        return "xl save never syncs, and leaves a partial file when it fails: only the END record proves it whole"

    def subject(self) -> str:
        return "memory"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.image, f"{self.image}.sha256")

    def do(self) -> Iterator[Command]:
        yield Seal(self.part, f"{self.image}.sha256", self.image)
        yield Rename(self.part, self.image)


@dataclass(frozen=True, slots=True)
class PublishRecord(Operation):
    """Write the record, the last thing of all: from then on the snapshot exists."""

    record: Record

    def title(self) -> str:
        return f"write the record of {self.record.snapshot}"

    def why(self) -> str:
        return "last of all: a snapshot without its record does not exist"

    def subject(self) -> str:
        return "record"

    def checks(self) -> Iterator[Command]:
        yield from absent(f"{self.record.folder}/record.json")

    def do(self) -> Iterator[Command]:
        yield from _put(f"{self.record.folder}/record.json", document(self.record))


# A guest's disks may be served by QEMUs of dom0, which come first. Level 1: 3, the default, takes half as
# long again for a few per cent.
_COMPRESS = ("nice", "-n", "19", "zstd", "-q", "-1", "-T1", "-c")


@dataclass(frozen=True, slots=True)
class CompactMemory(Operation):
    """Make the memory image smaller as the record says, which is the one that was published. pages: keep the last copy
    of each page that a live capture holds several times.

    The record is what decides between the two images: it is replaced in one go, so there is always one to go by.
    """

    effect = "change"
    record: Record
    pages: bool

    def title(self) -> str:
        ways = ["keep only the last copy of each page in the memory image"] * self.pages
        ways += [f"compress {'it' if self.pages else 'the memory image'}"] * (self.record.shrink == "zst")
        return f"{' and '.join(ways)}, if that saves room"

    def why(self) -> str:
        live = "a live capture holds a page again each time that it changed; " if self.pages else ""
        return f"{live}the snapshot is whole without this, and nothing fails if it cannot be done or is not worth it"

    def subject(self) -> str:
        return "memory"

    def do(self) -> Iterator[Command]:
        image, target = self.record.images
        text = document(replace(self.record, memory=target, shrunk=True))
        compresses = self.record.shrink == "zst"
        through, back = (_COMPRESS, decompress(target)) if compresses else ((), ())
        yield Compact(image, target, f"{self.record.folder}/record.json", text, self.pages, through, back)


@dataclass(frozen=True, slots=True)
class RewriteRecord(Operation):
    """Replace a record by a newer one, atomically."""

    effect = "change"
    record: Record
    reason: str

    def title(self) -> str:
        return f"rewrite the record of {self.record.snapshot}: {self.reason}"

    def subject(self) -> str:
        return "record"

    def do(self) -> Iterator[Command]:
        yield from _put(f"{self.record.folder}/record.json", document(self.record))


@dataclass(frozen=True, slots=True)
class MarkCurrent(Operation):
    """Note from which snapshot the domain goes on; the next snapshot's parent."""

    effect = "change"
    parent: str
    snapshot: str

    def title(self) -> str:
        return f"note that the domain goes on from {self.snapshot or 'no snapshot'}"

    def subject(self) -> str:
        return "record"

    def do(self) -> Iterator[Command]:
        yield from _put(f"{self.parent}/current", f"{self.snapshot}\n")


@dataclass(frozen=True, slots=True)
class VerifyMemory(Operation):
    """Prove, while the domain still runs, that a memory image is the one that was written."""

    effect = "check"
    image: str
    compressed: bool = False

    def title(self) -> str:
        return "confirm that the snapshot's memory image is complete and unaltered"

    def subject(self) -> str:
        return "memory"

    def checks(self) -> Iterator[Command]:
        for path in (self.image, f"{self.image}.sha256"):  # whoever reads a FIFO waits for ever
            yield Run(("test", "-f", path))
            yield Run(("test", "!", "-L", path))
        yield Run(("sha256sum", "--check", "--status", "--strict", "--", f"{self.image}.sha256"))
        yield Run(("zstd", "-t", "-q", "--", self.image)) if self.compressed else Seal(self.image)

    def do(self) -> Iterator[Command]:
        yield from ()


@dataclass(frozen=True, slots=True)
class RemoveSnapshotFiles(Operation):
    """Remove the memory image, then the record, then the folder: in this order a cut leaves a record that says so."""

    effect = "destroy"
    record: Record

    def title(self) -> str:
        return f"remove the memory image and the record of {self.record.snapshot}"

    def subject(self) -> str:
        return "record"

    def do(self) -> Iterator[Command]:
        for number, image in enumerate(self.record.images):
            # What was never published lies there too, of a snapshot whose making ended with its QEMU.
            parts = () if number else (f"{image}.part",)
            yield Run(("rm", "-f", "--", image, *parts, f"{image}.sha256"))
        yield Run(("rm", "-f", "--", f"{self.record.folder}/record.json"))
        yield Run(("rmdir", "--", self.record.folder), when=("test", "-d", self.record.folder))


def _put(path: str, text: str) -> Iterator[Command]:
    yield Run(("rm", "-f", "--", f"{path}.part"))  # ours, of an attempt that was cut off
    yield Write(f"{path}.part", text)
    yield Rename(f"{path}.part", path)
