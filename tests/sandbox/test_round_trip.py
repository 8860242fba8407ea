"""Printed scripts on the stand-in host: snapshots taken, gone back to and deleted while guests count on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from executor.parse import records
from planner.compile import compile_plan
from planner.facts import Record
from planner.plan import Verb
from schema.diagnostic import Refused
from schema.spec import Disk, Method, Spec
from tests.sandbox import domains
from tests.sandbox.guest import Instant
from tests.sandbox.host import UUID, Sandbox
from tests.sandbox.sharing import sharing_blocks

Methods = Mapping[str, tuple[str, Method]]  # vdev -> kind of disk, method
MIXED: Methods = {"xvda": ("qcow2", "internal"), "xvdb": ("qcow2", "external"), "xvdc": ("raw", "copy"),
                  "xvdd": ("job", "copy")}  # fmt: skip
ALONE: dict[str, Methods] = {
    "internal": {"xvda": ("qcow2", "internal")},
    "external": {"xvda": ("qcow2", "external")},
    "copy": {"xvda": ("raw", "copy")},
    "a copy job": {"xvda": ("job", "copy")},
    "two at once": {"xvda": ("qcow2", "external"), "xvdb": ("qcow2", "internal")},
}
REFLINK: Methods = {"xvda": ("raw", "reflink"), "xvdb": ("job", "reflink"), "xvdc": ("qcow2", "internal")}


class Story:
    """One domain of a host, and what happens to it by domsnap's scripts."""

    def __init__(self, box: Sandbox, methods: Methods, uuid: str = UUID) -> None:
        self.box, self.methods = box, methods
        box.create("web01", {vdev: kind for vdev, (kind, _) in methods.items()}, uuid=uuid)

    def do(self, verb: Verb, snapshot: str, *, discard_current: bool = False) -> str:
        """Plan on what is to be seen now, and run the script."""
        disks = tuple(Disk(vdev, method) for vdev, (_, method) in self.methods.items())
        spec = replace(Spec("web01", snapshot), store=str(self.box.store), disks=disks)
        plan = compile_plan(verb, spec, self.box.facts("web01"), discard_current=discard_current)
        return self.box.apply(plan)

    def records(self) -> dict[str, Record]:
        texts = {path.parent: path.read_text() for path in self.box.store.glob("web01/*/record.json")}
        return {folder.name: records.record(str(folder), text) for folder, text in texts.items()}

    def kept(self) -> dict[str, Instant]:
        """Hold that all is of one instant in every snapshot; return what they hold."""
        kept = {name: self.box.kept(record) for name, record in self.records().items()}
        assert not {name: instant.tear for name, instant in kept.items() if instant.tear}
        return kept

    def whole(self) -> dict[str, Instant]:
        """The same, and that the guest runs on with memory and disks of one instant that have lost nothing."""
        self.box.runs_on("web01")
        assert self.box.instant("web01").tear == ""
        assert self.box.lasting("web01") == ""
        return self.kept()

    def take(self, snapshot: str) -> Instant:
        self.do("create", snapshot)
        kept = self.whole()[snapshot]
        self.box.runs_on("web01", 4)
        return kept

    def back(self, snapshot: str, *, discard_current: bool = False) -> None:
        before, held = self.box.mark("web01").counter, self.kept()[snapshot].mark.counter
        assert before > held + 2
        self.do("revert", snapshot, discard_current=discard_current)
        assert held <= self.box.mark("web01").counter
        self.whole()

    def delete(self, snapshot: str) -> None:
        others = {name: kept for name, kept in self.kept().items() if name != snapshot}
        self.do("delete", snapshot)
        assert self.whole() == others

    def end(self, *extra: str) -> None:
        """End the domain, and hold that its images are sound and that nothing is left but them and `extra`."""
        names = {f"srv/{path.name}" for path in map(Path, self.disks())}
        assert self.box.files() == names | {"store/web01/current"} | set(extra)
        self.box.xl("destroy", "web01")
        assert self.box.hurt() == ""
        for path in map(Path, self.disks()):
            info = subprocess.run(
                ["qemu-img", "info", "--output=json", path], capture_output=True, text=True, check=True
            )
            assert '"backing-filename"' not in info.stdout and '"snapshots"' not in info.stdout

    def disks(self) -> Iterator[str]:
        for vdev, (kind, _) in self.methods.items():
            yield str(self.box.srv / f"web01-{vdev}.{'qcow2' if kind == 'qcow2' else 'raw'}")


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Sandbox]:
    """Yield a host whose disks and store lie on a filesystem that shares blocks between files."""
    with sharing_blocks(tmp_path) as srv, Sandbox(srv=srv) as made:
        yield made


def test_memory_and_disks_go_back_to_one_instant(box: Sandbox) -> None:
    story = Story(box, ALONE["two at once"])
    story.take("one")
    story.back("one", discard_current=True)
    assert box.domain("web01").domid == 2


@pytest.mark.slow
def test_memory_and_disks_of_every_kind_go_back_to_one_instant_and_leave_nothing(box: Sandbox) -> None:
    story = Story(box, MIXED)
    held = story.take("one")
    story.back("one")
    assert set(story.records()) == {"one", "pre-revert-1"}
    assert box.domain("web01").domid == 2
    assert story.kept()["one"] == held
    story.delete("pre-revert-1")
    story.delete("one")
    story.end()


def test_a_domain_that_was_created_anew_gets_the_uuid_of_its_snapshot_back(box: Sandbox) -> None:
    """Where its configuration says no UUID, each `xl create` chooses another one."""
    story = Story(box, ALONE["external"], uuid="")
    story.take("one")
    then = box.facts("web01").domains[0].uuid
    box.xl("destroy", "web01")
    box.xl("create", str(box.root / "web01.cfg"))
    box.runs_on("web01", 6)
    now = box.facts("web01").domains[0].uuid
    story.back("one")
    assert box.facts("web01").domains[0].uuid == then != now
    story.do("revert", "pre-revert-1", discard_current=True)
    story.whole()
    assert box.facts("web01").domains[0].uuid == now


def test_the_daemon_of_xl_outlives_a_snapshot_before_xen_4_20(box: Sandbox) -> None:
    story = Story(box, {"xvda": ("qcow2", "internal")})
    daemon = box.domain("web01").monitor
    assert "hold the xl monitor of web01" in story.do("create", "one")
    assert domains.alive(daemon) == "S"


@pytest.mark.slow
@pytest.mark.parametrize("methods", [pytest.param(each, id=name) for name, each in ALONE.items()])
def test_a_second_snapshot_the_older_one_again_and_the_present_as_it_was(box: Sandbox, methods: Methods) -> None:
    story = Story(box, methods)
    first = story.take("one")
    second = story.take("two")
    assert second.mark.counter > first.mark.counter
    present = box.mark("web01").counter
    story.back("one")
    box.runs_on("web01", 4)
    third = story.take("three")
    assert set(story.records()) == {"one", "two", "three", "pre-revert-1"}
    assert third.mark.counter > first.mark.counter
    while box.mark("web01").counter < story.kept()["pre-revert-1"].mark.counter + 4:
        box.runs_on("web01")
    story.back("pre-revert-1", discard_current=True)
    assert box.mark("web01").counter >= present
    finish(story, ["one", "pre-revert-1", "two", "three"])


@pytest.mark.slow
@pytest.mark.parametrize("order", list(permutations(["one", "two", "three"])), ids=" ".join)
def test_snapshots_are_deleted_in_any_order(box: Sandbox, order: tuple[str, ...]) -> None:
    story = Story(box, {"xvda": ("qcow2", "external"), "xvdb": ("qcow2", "internal"), "xvdc": ("job", "copy")})
    for name in ("one", "two", "three"):
        story.take(name)
    for name in order:
        story.delete(name)
    story.end()


@pytest.mark.slow
@pytest.mark.parametrize("order", list(permutations(["one", "two", "pre-revert-1"])), ids=" ".join)
def test_after_a_revert_every_snapshot_can_be_deleted_once_what_needs_it_is_gone(
    box: Sandbox, order: tuple[str, ...]
) -> None:
    story = Story(box, MIXED)
    story.take("one")
    story.take("two")
    story.back("one")
    box.runs_on("web01", 3)
    finish(story, list(order))


def finish(story: Story, waiting: list[str]) -> None:
    """Delete all snapshots in this order; those that others need wait for them. Nothing may be left then."""
    while waiting:
        for name in waiting:
            said = attempt(story, name)
            if not said:
                waiting.remove(name)
                break
            assert "need" in said
        else:
            pytest.fail(f"none of {waiting} can be deleted")
    story.end()


def attempt(story: Story, snapshot: str) -> str:
    """Delete a snapshot; return why that was refused, "" if it was not."""
    try:
        story.delete(snapshot)
    except Refused as refused:
        return str(refused)
    return ""


@pytest.mark.slow
def test_blocks_are_shared_where_the_filesystem_can(sharing: Sandbox) -> None:
    story = Story(sharing, REFLINK)
    story.take("one")
    story.take("two")
    story.back("one")
    finish(story, ["one", "two", "pre-revert-1"])


@pytest.mark.slow
def test_a_guest_that_reboots_after_a_snapshot_finds_all_it_wrote(box: Sandbox) -> None:
    story = Story(box, {"xvda": ("qcow2", "external"), "xvdb": ("qcow2", "internal")})
    story.take("one")
    before = box.mark("web01").counter
    box.xl("reboot", "web01")
    assert box.domain("web01").domid == 2
    story.whole()
    assert box.mark("web01").counter > before
    story.back("one", discard_current=True)
    story.delete("one")
    story.end()


@pytest.mark.slow
def test_a_domain_that_is_off_goes_back_to_its_snapshot(box: Sandbox) -> None:
    story = Story(box, MIXED)
    story.take("one")
    box.xl("destroy", "web01")
    story.do("revert", "one")
    assert set(story.records()) == {"one", "pre-revert-1"}
    box.runs_on("web01")
    assert box.instant("web01").tear == "" and box.lasting("web01") == ""


@pytest.mark.slow
@pytest.mark.parametrize("xen", ["4.17.7", "4.20.2"])
def test_a_save_that_fails_leaves_the_guest_running_and_nothing_behind(xen: str) -> None:
    with Sandbox(xen) as box:
        story = Story(box, MIXED)
        before = box.files()
        disks = tuple(Disk(vdev, method) for vdev, (_, method) in story.methods.items())
        spec = replace(Spec("web01", "one"), store=str(box.store), disks=disks)
        plan = compile_plan("create", spec, box.facts("web01"))
        box.tell(save_fails=True)
        said = box.apply(plan, status=5)
        assert "Failed to save domain, resuming domain" in said and "everything was undone" in said
        story.whole()
        assert box.files() == before
        assert domains.alive(box.domain("web01").monitor) == "S"
