"""Files, qcow2 images and logical volumes as content: what each block of a disk was last written with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

BLOCKS = 3
Blocks = list[int | None]


@dataclass
class Inode:
    """A file. Blocks are None where a qcow2 image has nothing of its own; tags are its internal snapshots."""

    number: int
    kind: str
    blocks: Blocks = field(default_factory=lambda: [None] * BLOCKS)
    backing: str = ""
    tags: dict[str, Blocks] = field(default_factory=dict)
    text: str = ""
    ram: int = 0


@dataclass
class Volume:
    """A logical volume; a snapshot's blocks are its own, whatever happens to its origin."""

    name: str
    kind: str
    uuid: str
    blocks: Blocks
    origin: str = ""
    size: int = 4 * 2**30
    tags: set[str] = field(default_factory=set)


class Files:
    """A tree of names to inodes; several names may be one file."""

    def __init__(self) -> None:
        self.numbers = itertools.count(100)
        self.names: dict[str, Inode] = {}
        self.folders: set[str] = {"/srv/vm", "/var/lib/domsnap"}

    def make(self, path: str, kind: str, blocks: Blocks | None = None, **other: object) -> Inode:
        assert path not in self.names, f"{path} would be overwritten"
        assert path.rpartition("/")[0] in self.folders, f"{path} has no folder"
        inode = Inode(next(self.numbers), kind, **other)  # type: ignore[arg-type]
        if blocks is not None:
            inode.blocks = list(blocks)
        self.names[path] = inode
        return inode

    def read(self, path: str, tag: str = "") -> list[int]:
        """Return the content of an image through its chain of names; a raw image's is its own."""
        inode = self.names[path]
        blocks = list(inode.tags[tag] if tag else inode.blocks)
        seen = {inode.number}
        while inode.backing:
            inode = self.names[inode.backing]
            assert inode.number not in seen, f"{path} is its own backing file"
            seen.add(inode.number)
            blocks = over(blocks, inode.blocks)
        return [block or 0 for block in blocks]


def over(top: Blocks, below: Blocks) -> Blocks:
    return [below[at] if block is None else block for at, block in enumerate(top)]
