"""LVM as it is: snapshots that overflow, merges that are put off."""

from __future__ import annotations

from tests.xen.dom0 import Dom0
from tests.xen.story import Story


def test_a_snapshot_that_has_overflowed(dom0: Dom0) -> None:
    """It is found by verify, refused by a revert, and can be deleted."""
    disks = {"xvda": ("qcow2", "external"), "xvdb": ("scratch", "{method: lvm, size: 4MiB}")}
    story = Story(dom0, "web01", "pvh", disks, "apply")
    story.take("one")
    dom0.ask("dd if=/dev/urandom of=/dev/vg0/web01-xvdb bs=1M count=10 oflag=direct status=none")
    assert "overflowed" in (said := dom0.ask("domsnap verify web01", status=6)), said
    said = story.do("revert", "one", status=1)
    assert "has overflowed: LVM has given it up" in said, said
    story.domain.whole()
    story.delete("one")
    story.end()


def test_a_merge_that_is_put_off_since_somebody_has_the_volume_open(dom0: Dom0) -> None:
    """lvconvert exits 0 then, and memory would be restored onto the wrong disk."""
    story = Story(dom0, "web01", "pvh", {"xvda": ("thick", "lvm")}, "apply")
    story.take("one")
    story.domain.next(lines=6)
    dom0.ask("sleep 900 </dev/vg0/web01-xvda >/dev/null 2>&1 & echo $! >/run/holder")
    count = story.domain.whole().count
    said = story.do("revert", "one", status=None)
    dom0.ask("kill $(cat /run/holder)")
    assert "undone" in said or "finish by hand" in said, said
    if "finish by hand" in said:
        dom0.ask("domsnap abort web01", status=None)
    assert "nothing" in dom0.ask("domsnap status")
    assert story.domain.whole().count >= count
    story.back("one", "--discard-current")
    story.delete("one")
    story.end()
