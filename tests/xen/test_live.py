"""Live captures of guests on a real host: memory and disks of one instant, and the guest runs on whatever happens."""

from __future__ import annotations

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.prepared import RESET
from tests.xen.story import STORE, Disks, Story
from tests.xen.test_failures import meanwhile

DISKS: Disks = {"xvda": ("qcow2", "external"), "xvdb": ("thin", "lvm")}
IN_THE_WINDOW = "xvdb: LVM snapshot"
KINDS = pytest.mark.parametrize("kind", ["pvh", "hvm"])


def finished(story: Story) -> None:
    """End the domain, and all that is of it; that a live snapshot can be deleted other tests show."""
    story.sound()
    story.dom0.ask(RESET, status=None)


@KINDS
def test_its_xl_monitor_is_there_afterwards(dom0: Dom0, kind: str) -> None:
    story = Story(dom0, "web01", kind, DISKS, "live")
    story.take("one")
    story.domain.again("xl reboot web01")
    story.domain.shut_down()
    story.domain.again()
    finished(story)


def test_a_guest_at_work_ten_times_in_a_row(dom0: Dom0) -> None:
    """It changes memory, and writes files to an ext4, all the time; it reads them back, and its memory's sum."""
    story = Story(dom0, "web01", "pvh", {"xvda": ("qcow2", "external"), "xvdb": ("files", "lvm")}, "live", dirty=5)
    for number in range(10):
        story.take(f"s{number}")
    story.sound()
    for snapshot in ("s9", "s4", "s4"):
        story.back(snapshot, "--discard-current")
        story.domain.next(lines=6)
    finished(story)


@KINDS
def test_its_receiver_is_killed_in_the_window(dom0: Dom0, kind: str) -> None:
    story = Story(dom0, "web01", kind, DISKS, "live")
    said = meanwhile(
        story,
        "create",
        "one",
        f".*{IN_THE_WINDOW}",
        "pkill -9 -f '^[^ ]*python[^ ]* .*[r]eceive.py '; sleep 3; xl list web01",
        status=None,
    )
    # What works on a disk holds the guest still; the rest follows from who was faster.
    assert "done" in said or "everything was undone" in said, said
    story.domain.whole(lines=4)
    finished(story)


@pytest.mark.parametrize("kind", ["pvh", "hvm", "hvm-ide"])
def test_its_xl_is_killed_in_the_window(dom0: Dom0, kind: str) -> None:
    """Nobody lets the guest go on then but domsnap: by `xl resume`, or before 4.20 by Xen's library."""
    story = Story(dom0, "web01", kind, DISKS, "live")
    said = meanwhile(story, "create", "one", f".*{IN_THE_WINDOW}", "pkill -9 -f '^xl migrate'", status=None)
    assert said.rstrip().endswith("done"), said
    assert "nothing" in dom0.ask("domsnap status")
    story.domain.whole(lines=4)
    story.sound()
    for snapshot in story.snapshots():
        story.at[snapshot] = story.held(snapshot)
        story.back(snapshot, "--discard-current")
    finished(story)


@pytest.mark.parametrize("step", ["write the memory", IN_THE_WINDOW, "takes over"])
@KINDS
def test_apply_is_killed(dom0: Dom0, kind: str, step: str) -> None:
    story = Story(dom0, "web01", kind, DISKS, "live")
    count = story.domain.whole().count
    act = "sleep 1; kill -9 $pid"
    meanwhile(story, "create", "one", f".*{step}", act, status=None)
    story.domain.whole(lines=4)
    dom0.ask("domsnap status; domsnap abort web01", status=None)
    assert "nothing" in dom0.ask("domsnap status")
    assert story.domain.whole(lines=2).count >= count
    story.domain.again("xl reboot web01")
    assert not story.snapshots(), dom0.ask(f"find {STORE}")
    finished(story)
