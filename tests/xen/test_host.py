"""What only a real host can show: guests that start anew, power cuts, refusals, two at once."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.story import Disks, Story
from tests.xen.test_failures import meanwhile

DISKS: Disks = {"xvda": ("qcow2", "external"), "xvdb": ("thin", "lvm"), "xvdc": ("loop", "copy")}
# A step is named by the regular expression of what stands in its brackets. How many there are differs between releases.
LAST = pytest.param(r"([0-9]+)/\1\]", id="last")


@pytest.fixture
def story(dom0: Dom0) -> Iterator[Story]:
    story = Story(dom0, "web01", "pvh", DISKS, "apply")
    yield story
    story.delete_all()
    story.end()


def test_a_guest_that_starts_anew_finds_what_it_has_written(story: Story) -> None:
    """The xl monitor has to be there for that, and to know where the disks are now."""
    for begin in (story.take, story.back):
        begin("one")
        story.domain.again(f"xl reboot {story.domain.name}")
        story.domain.shut_down()
        story.domain.again()
        story.domain.again(f"xl reboot {story.domain.name}")


@pytest.mark.smoke
def test_a_guest_at_work_goes_back_to_files_that_are_whole(dom0: Dom0) -> None:
    """It writes to an ext4 and to its memory all the time. It reads its files back, all of them when it starts."""
    disks = {"xvda": ("qcow2", "external"), "xvdb": ("files", "lvm")}
    story = Story(dom0, "web02", "pvh", disks, "apply", dirty=20)
    story.domain.next(lines=10)
    story.take("one")
    story.domain.next(lines=10)
    story.back("one", "--discard-current")
    assert story.domain.whole(lines=5).files > 20
    story.off()
    device = story.domain.paths["xvdb"]
    dom0.ask(
        f"set -e; mount {device} /mnt; ls -l /mnt; umount /mnt; e2fsck -fn {device}"
    )  # the mount replays its journal
    story.on()
    story.delete("one")
    story.end()


@pytest.mark.parametrize("way,kind", [("compressed", "hvm"), ("live compressed", "pvh")])
def test_compressed_memory_is_restored_through_a_pipe(dom0: Dom0, way: str, kind: str) -> None:
    story = Story(dom0, "web03", kind, {"xvda": ("qcow2", "external")}, way)
    story.take("one")
    assert story.image("one").endswith("/memory.zst")
    story.sound()
    story.domain.next(lines=5)
    story.back("one")
    story.off()
    story.back("one", "--discard-current")
    story.way = f"{way} script"
    story.domain.next(lines=5)
    story.back("one", "--discard-current")
    story.delete_all()
    story.end()


def stop_at(story: Story, command: str, step: str) -> None:
    """Run a command until it says that a step begins."""
    said = list(story.dom0.watch(command, rf"\[{step}"))
    assert re.match(rf"\[{step}", said[-1]), said


def goes_on(story: Story, count: int, kept: set[str]) -> None:
    """Hold that nothing is left to do, and that each snapshot can be gone back to."""
    assert "nothing" in story.dom0.ask("domsnap status")
    if story.state() == "off":
        story.domain.again(at_least=count)
    story.domain.whole()
    story.sound()
    assert set(story.snapshots()) >= kept
    for snapshot in story.snapshots():
        story.at.setdefault(snapshot, story.held(snapshot))
        story.domain.next(lines=6)
        story.back(snapshot, "--discard-current")


@pytest.mark.parametrize("step", ["5/", "11/", pytest.param("14/", marks=pytest.mark.smoke), "18/", LAST])
def test_a_power_cut_during_create(story: Story, step: str) -> None:
    count = story.domain.whole().count
    stop_at(story, story.command("create", "one"), step)
    power_cut(story)
    goes_on(story, count, set())


@pytest.mark.parametrize("step", ["5/", pytest.param("13/", marks=pytest.mark.smoke), "16/", "18/"])
def test_a_power_cut_during_revert(story: Story, step: str) -> None:
    story.take("one")
    story.domain.next(lines=6)
    stop_at(story, story.command("revert", "one"), step)
    power_cut(story)
    goes_on(story, story.at["one"], {"one"})


@pytest.mark.parametrize("step", ["3/", pytest.param("5/", marks=pytest.mark.smoke), "7/"])
def test_a_power_cut_during_delete(story: Story, step: str) -> None:
    story.take("one")
    story.take("two")
    count = story.domain.whole().count
    stop_at(story, story.command("delete", "one"), step)
    power_cut(story)
    if "one" in story.snapshots():
        story.dom0.ask(story.command("delete", "one"))
    goes_on(story, count, {"two"})


def power_cut(story: Story) -> None:
    """Cut the power and start the host; do what its unit does then, and what that asks for."""
    story.dom0.cut()
    story.dom0.boot()
    said = story.dom0.ask("domsnap recover --boot; echo =$?", status=None)
    asked = re.findall(r"a spec of web01/(\S+) with `domsnap apply --delete`", said)
    assert f"={6 if asked else 0}\n" in said, said
    for snapshot in asked:
        story.delete(snapshot)


@pytest.mark.parametrize("verb", ["create", "revert", "delete"])
def test_an_apply_that_is_killed_at_any_step_leaves_a_guest_that_runs(story: Story, verb: str) -> None:
    """Its guardian goes on with what it has left. A deletion is that of the oldest of two."""
    names = (f"s{number}" for number in itertools.count())
    there = {"create": 0, "revert": 1, "delete": 2}[verb]
    for step in itertools.count(1):
        for snapshot in reversed(story.snapshots()[there:]):
            story.delete(snapshot)
        while len(story.snapshots()) < there:
            story.take(next(names))
        before = story.snapshots()
        meant = before[0] if before else next(names)
        count = story.at[meant] if verb == "revert" else story.domain.whole().count
        said = meanwhile(story, verb, meant, f"{step}/", "kill -9 $pid", status=None)
        if f"[{step}/" not in said:
            break
        # The last step of all may be faster than what is to kill it.
        assert "its guardian lets the guest run on" in said or said.rstrip().endswith("done"), said
        limit = time.monotonic() + 120
        while "nothing" not in (left := story.dom0.ask("domsnap status", status=None)):
            assert time.monotonic() < limit, (said, left)
        assert story.domain.whole().count >= count, said
        assert {*before} - {*story.snapshots()} <= ({meant} if verb == "delete" else set()), said
        story.domain.again(f"xl reboot {story.domain.name}")
        story.sound()
    assert f"/{step - 1}]" in said, said
    goes_on(story, count, set(before) - {meant} if verb == "delete" else {meant})


def test_two_domains_at_once_and_one_by_two(story: Story, dom0: Dom0) -> None:
    other = Story(dom0, "web02", "pv", {"xvda": ("qcow2", "external")}, "apply")
    first, second = story.command("create", "one"), story.command("create", "two")
    beside = other.command("create", "one")
    said: dict[str, str] = {}

    def run(name: str, command: str) -> threading.Thread:
        thread = threading.Thread(target=lambda: said.__setitem__(name, dom0.ask(f"{command}; echo $?")))
        thread.start()
        return thread

    threads = [run("first", first), run("beside", beside)]
    time.sleep(4)
    threads.append(run("second", second))
    for thread in threads:
        thread.join()
    codes = {name: text.split()[-1] for name, text in said.items()}
    assert codes["beside"] == "0", said
    assert sorted((codes["first"], codes["second"])) == ["0", "4"], said
    other.delete_all()
    story.delete_all()
    other.end()
