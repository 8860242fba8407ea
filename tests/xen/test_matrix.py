"""Kinds of domains, disks and methods on a real host: snapshots taken, gone back to and deleted, each way there is."""

from __future__ import annotations

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.story import Disks, Story

FIVE: Disks = {
    "xvda": ("qcow2", "external"), "xvdb": ("qdisk", "copy"), "xvdc": ("loop", "copy"), "xvdd": ("thick", "lvm"),
    "xvde": ("thin", "lvm"),
}  # fmt: skip
# kind of domain, disks, way, what is done: +NAME create, <NAME revert, <<NAME revert and discard, -NAME delete, off, on
CELLS = {
    "pvh five apply": ("pvh", FIVE, "apply", "+one +two <one -two -pre-revert-1 -one"),
    "pv alone script": (
        "pv",
        {"xvda": ("qcow2", "internal"), "xvdb": ("thin", "lvm")},
        "script",
        "+one off on <one <<one -pre-revert-1 -one",
    ),
}


@pytest.mark.parametrize("cell", CELLS)
def test_there_and_back(dom0: Dom0, cell: str) -> None:
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
