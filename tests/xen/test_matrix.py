"""Kinds of domains, disks and methods on a real host: snapshots taken, gone back to and deleted, each way there is."""

from __future__ import annotations

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.story import Disks, Stopped, Story

FIVE: Disks = {
    "xvda": ("qcow2", "external"), "xvdb": ("qdisk", "copy"), "xvdc": ("loop", "copy"), "xvdd": ("thick", "lvm"),
    "xvde": ("thin", "lvm"),
}  # fmt: skip
# As many as IDE has: xvda to xvdd.
FOUR: Disks = {
    "xvda": ("qcow2", "external"), "xvdb": ("loop", "copy"), "xvdc": ("thick", "lvm"), "xvdd": ("thin", "lvm"),
}  # fmt: skip
QCOW2: Disks = {
    "xvda": ("qcow2", "internal"), "xvdb": ("xfs", "reflink"), "xvdc": ("qcow2", "external"),
    "xvdd": ("swap", "{method: exclude, reason: swap}"),
}  # fmt: skip
# An emulated disk is sda or sdd as it comes: such a guest would take the swap for one that counts.
QCOW2_WITHOUT_SWAP: Disks = {vdev: each for vdev, each in QCOW2.items() if each[0] != "swap"}
QCOW2_AND_THIN: Disks = {"xvda": ("qcow2", "external"), "xvdb": ("thin", "lvm")}
SERVED_BY_NO_QEMU: Disks = {"xvda": ("thick", "lvm"), "xvdb": ("thin", "lvm")}
# kind of domain, disks, way, what is done: +NAME create, <NAME revert, <<NAME revert and discard, -NAME delete, off, on
THERE_AND_BACK = "+one <one -pre-revert-1 -one"
# What two images stand on is refused to be deleted: the present is taken off one of them first.
BRANCHES = "+one +two +three <<one +four -two <<three -three <<four -one <<four -four"
CELLS: dict[str, tuple[str, Disks, str, str]] = {
    "pvh five apply": ("pvh", FIVE, "apply", "+one +two <one -two -pre-revert-1 -one"),
    "pv five script": ("pv", FIVE, "script", THERE_AND_BACK),
    "hvm five apply": ("hvm", FIVE, "apply", THERE_AND_BACK),
    "hvm-ide four script": ("hvm-ide", FOUR, "script", THERE_AND_BACK),
    "pvh qcow2 script": ("pvh", QCOW2, "script", THERE_AND_BACK),
    "pv qcow2 apply": ("pv", QCOW2, "apply", THERE_AND_BACK),
    "hvm qcow2 script": ("hvm", QCOW2, "script", "+one +two <<one -two <<one -one"),
    "hvm-ide qcow2 apply": ("hvm-ide", QCOW2_WITHOUT_SWAP, "apply", THERE_AND_BACK),
    "pvh volumes apply": ("pvh", SERVED_BY_NO_QEMU, "apply", "+one off <one <<one -pre-revert-1 -one"),
    "pv volumes script": ("pv", SERVED_BY_NO_QEMU, "script", "+one off on <one -pre-revert-1 -one"),
    "hvm volumes apply": ("hvm", SERVED_BY_NO_QEMU, "apply", THERE_AND_BACK),
    "pv alone script": ("pv", {"xvda": ("qcow2", "internal")}, "script", "+one off on <one <<one -pre-revert-1 -one"),
    "pvh branches apply": ("pvh", FOUR, "apply", BRANCHES),
    "pvh branches script": ("pvh", QCOW2, "script", BRANCHES),
    "pvh external and thin live": ("pvh", QCOW2_AND_THIN, "live", "+one <<one -one"),
    "pvh external and thin live script": ("pvh", QCOW2_AND_THIN, "live script", "+one <<one -one"),
    "hvm external and thin live script": ("hvm", QCOW2_AND_THIN, "live script", "+one <<one -one"),
    "pvh five live": ("pvh", FIVE, "live", "+one +two <one <<two -one -two -pre-revert-1"),
    "pvh qcow2 live": ("pvh", QCOW2, "live", THERE_AND_BACK),
    "hvm external and thin live": ("hvm", QCOW2_AND_THIN, "live", THERE_AND_BACK),
    "hvm-ide external and thin live": ("hvm-ide", QCOW2_AND_THIN, "live", THERE_AND_BACK),
    "pvh qcow2 twice apply": ("pvh", QCOW2, "apply", "+one +two <<one <<two <<two off <<one -one -two"),
}


SMOKE = ("pv qcow2 apply", "pvh external and thin live", "hvm external and thin live")


@pytest.mark.parametrize("cell", [pytest.param(cell, marks=[pytest.mark.smoke] * (cell in SMOKE)) for cell in CELLS])
def test_there_and_back(dom0: Dom0, cell: str, stopped: Stopped) -> None:
    kind, disks, way, told = CELLS[cell]
    story = Story(dom0, "web01", kind, disks, way)
    for word in told.split():
        name = word.lstrip("+<-") if word not in ("off", "on") else ""
        match word[: len(word) - len(name)]:
            case "+":
                story.take(name)
            case "<":
                story.back(name)
            case "<<":
                story.back(name, "--discard-current")
            case "-":
                story.delete(name)
            case "off":
                story.off()
            case "on":
                story.on()
        story.sound()
    story.end()
    stopped |= story.stopped
