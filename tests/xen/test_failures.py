"""Real programs that really fail in the middle of a plan: what was begun is undone, or said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.story import Disks, Story
from tests.xen.test_refusals import greedy

DISKS: Disks = {"xvda": ("qcow2", "external"), "xvdb": ("thick", "lvm")}


@pytest.fixture
def story(dom0: Dom0) -> Iterator[Story]:
    story = Story(dom0, "web01", "pvh", DISKS, "apply")
    yield story
    story.delete_all()
    story.end()


def meanwhile(story: Story, verb: str, snapshot: str, step: str, act: str, status: int | None) -> str:
    """Carry a verb out, and run a line of shell when a step begins whose line has the regular expression `step` after
    its bracket. Apply ($pid) stands still meanwhile; a program that it has started by then does not."""
    command = story.command(verb, snapshot)
    line = (
        f"rm -f /run/said; mkfifo /run/said; {command} >/run/said 2>&1 & pid=$!; exec 3</run/said; begins='^\\[{step}';"
        ' while read -r line <&3; do echo "$line"; if [[ $line =~ $begins ]]; then kill -STOP $pid;'
        f" {{ {act}; }} >/run/acted 2>&1; kill -CONT $pid; fi; done; wait $pid"
    )
    return story.dom0.ask(line, status=status)


@pytest.mark.smoke
def test_lvcreate_fails(story: Story) -> None:
    """Somebody takes the room in the volume group while the memory is written."""
    before = story.left()
    said = meanwhile(
        story, "create", "one", ".*suspend web01", "lvcreate -qq -y -Zn -Wn -l 100%FREE -n filler vg0", status=5
    )
    story.dom0.ask("lvremove -qq -y vg0/filler")
    assert "lvcreate" in said and "everything was undone" in said, said
    assert story.left() == before
    story.domain.whole()
    story.take("one")


def test_xl_cannot_restore(story: Story) -> None:
    """Another domain takes the memory while the disks go back. Neither past nor present can be restored then; the
    present can once there is memory again."""
    story.take("one")
    story.domain.next(lines=6)
    count = story.domain.whole().count
    cfg = greedy(story.dom0, 128)
    said = meanwhile(story, "revert", "one", ".*xvdb: LVM snapshot", f"xl create -p {cfg}", status=6)
    assert "xl restore -- /var/lib/domsnap/web01/pre-revert-1/memory" in said, said
    assert "greedy" in story.dom0.ask("xl list"), story.dom0.ask("cat /run/acted")
    assert "web01" in story.dom0.ask("domsnap status", status=6)
    story.dom0.ask("xl destroy greedy; sleep 3")
    story.dom0.ask("domsnap abort web01", status=None)
    assert "nothing" in story.dom0.ask("domsnap status")
    assert story.domain.whole().count >= count
    story.back("one", "--discard-current")


def test_qemu_dies_while_the_guest_stands_still(story: Story) -> None:
    """A domain without its QEMU has lost its disk: it is to be ended, and what was begun is undone then."""
    number = story.domain.domid()
    kill = f"pkill -9 -f '[-]xen-domid {number} '"  # and not the shell that runs this line
    said = meanwhile(story, "create", "one", ".*xvdb: LVM snapshot", kill, status=6)
    assert f"xl destroy -- {number}" in said, said
    story.dom0.ask(f"xl destroy -- {number}")
    story.dom0.ask("domsnap abort web01", status=None)
    assert "nothing" in story.dom0.ask("domsnap status")
    story.on()
    story.sound()
    story.take("two")
