"""The spec as a value: what one document of a valid spec file says, with the place where it says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schema.diagnostic import Position

Capture = Literal["paused", "live"]
Method = Literal["internal", "external", "lvm", "reflink", "copy", "vhd", "exclude"]
Compress = Literal["zstd"]
Backend = Literal["qdisk", "phy", "tap"]
DomainType = Literal["pv", "pvh", "hvm"]

DEFAULT_STORE = "/var/lib/domsnap"


@dataclass(frozen=True, slots=True)
class GiveUp:
    """When a live capture is given up: after so many seconds, or once its image has so many bytes, or so many `times`
    the bytes of the domain's memory. None is never; `size` and `times` are never both said."""

    after: int | None = None
    size: int | None = None
    times: float | None = None

    def bytes(self, memory: int) -> int:
        """Return the bytes at which a capture of so much memory is given up, 0 for never."""
        return self.size or round((self.times or 0) * memory)


@dataclass(frozen=True, slots=True)
class Memory:
    """How the memory is captured; `file` is the absolute path of its image, None for the default inside the store.

    compact: keep only the last copy of each page that a live capture holds several times, once all is done.
    compress: what the image is compressed by, once all is done; None for nothing.
    give_up: when a live capture is; None for never.
    """

    capture: Capture = "paused"
    file: str | None = None
    compact: bool = True
    compress: Compress | None = None
    give_up: GiveUp | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """What a spec says of one disk; None is "not said", and then the facts decide. `size` in bytes.

    `size` is that of a thick LV's snapshot (`method: lvm`); `capacity` the disk's own, needed offline only.
    """

    vdev: str
    method: Method | None = None
    target: str | None = None
    format: str | None = None
    backend: Backend | None = None
    size: int | None = None
    capacity: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Assume:
    """What an offline plan takes for granted of the host and the domain; `memory` in bytes."""

    xen: str
    qemu: str
    domid: int
    uuid: str
    type: DomainType
    memory: int


@dataclass(frozen=True, slots=True)
class Spec:
    """One snapshot as declared. `digest` is the SHA-256 of the document's text, `positions` the place of each path."""

    domain: str
    snapshot: str
    description: str = ""
    memory: Memory = Memory()
    disks: tuple[Disk, ...] = ()
    store: str = DEFAULT_STORE
    assume: Assume | None = None
    digest: str = ""
    positions: Mapping[tuple[str | int, ...], Position] = field(default_factory=dict, compare=False, repr=False)
    lines: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def where(self, *path: str | int) -> Position | None:
        """Return where `path` is said, else where its nearest said ancestor is, else where the domain is named; without
        a path, where the spec begins. None for a spec without a source."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.positions:
                return self.positions[path[:end]]
        return self.positions.get(("domain",) if path else ())
