"""What a method is - how one kind of storage is snapshotted, reverted and deleted - and the table of all methods."""

from __future__ import annotations

from planner.facts import Disk, Facts
from planner.methods.copies import Copy, Reflink
from planner.methods.exclude import Exclude
from planner.methods.external import External
from planner.methods.internal import Internal
from planner.methods.lvm import Lvm
from planner.methods.method import Method
from planner.methods.vhd import Vhd

METHODS: dict[str, Method] = {
    method.name: method for method in (Internal(), External(), Lvm(), Reflink(), Copy(), Vhd(), Exclude())
}


def suitable(disk: Disk, facts: Facts) -> str:
    """Return the name of the method that suits a disk by itself, "" if none does."""
    filesystem = facts.filesystem(disk.path)
    if disk.backend_domain or disk.backend not in ("qdisk", "phy", "tap"):
        return ""
    match disk.format, disk.backend:
        case "qcow2", "qdisk":
            return "internal"
        case "vhd", "tap":
            return "vhd"
        case "raw", _ if disk.volume:
            return "lvm"
        case "raw", "qdisk" | "phy" if not disk.path.startswith("/dev/"):
            return "reflink" if filesystem and filesystem.reflink else "copy"
        case _:
            return ""
