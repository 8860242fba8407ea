"""Snapshots of VHD images under tapdisk. Planned and printed; never run on a real host, so marked untested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.commands import Command, Rename, Run
from planner.operations.domain import absent
from planner.operations.overlay import OnDisk


@dataclass(frozen=True, slots=True)
class CreateChild(OnDisk):
    """Make a VHD child of a frozen image that will take over the disk's path."""

    frozen: str
    child: str

    def title(self) -> str:
        return f"{self.vdev}: make a VHD child of {self.frozen}"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.child)

    def do(self) -> Iterator[Command]:
        yield Run(("vhd-util", "snapshot", "-n", self.child, "-p", self.frozen))

    def undo(self) -> Iterator[Command]:
        yield Run(("rm", "-f", "--", self.child))


@dataclass(frozen=True, slots=True)
class SwitchTapdisk(OnDisk):
    """Pause tapdisk, let the child take over the path, and let tapdisk open it.

    Order and words: xapi-project/sm drivers/FileSR.py and vhdutil.py; `tap-ctl unpause -a` opens another file.
    """

    effect = "change"
    path: str
    frozen: str
    child: str
    pid: str
    minor: str

    def title(self) -> str:
        return f"{self.vdev}: tapdisk switches to the child, which takes over {self.path}"

    def do(self) -> Iterator[Command]:
        yield Run(("tap-ctl", "pause", "-p", self.pid, "-m", self.minor))
        yield Run(("vhd-util", "snapshot", "-n", self.child, "-p", self.frozen))
        yield Rename(self.child, self.path)
        yield Run(("tap-ctl", "unpause", "-p", self.pid, "-m", self.minor, "-a", f"vhd:{self.path}"))

    def undo(self) -> Iterator[Command]:
        back = f"{self.child}.back"
        yield Run(("ln", "-f", "--", self.frozen, back))
        yield Rename(back, self.path)
        yield Run(("rm", "-f", "--", back, self.child))
        yield Run(("tap-ctl", "unpause", "-p", self.pid, "-m", self.minor, "-a", f"vhd:{self.path}"))


@dataclass(frozen=True, slots=True)
class Coalesce(OnDisk):
    """Write a VHD child's data into its parent, which then takes over the child's path; the domain is gone."""

    effect = "change"
    child: str
    parent: str

    def title(self) -> str:
        return f"{self.vdev}: coalesce {self.child} into {self.parent}, which takes over its path"

    def do(self) -> Iterator[Command]:
        yield Run(("vhd-util", "coalesce", "-n", self.child))
        yield Rename(self.parent, self.child)
