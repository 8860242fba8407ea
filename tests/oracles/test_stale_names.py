"""QEMU goes on calling a file by the name it had when it was opened, and opens that name again.

An external snapshot with the path kept leaves QEMU with such names. The rule, seen on QEMU 7.2 and 10.0: whenever QEMU
changes an image between read-only and read-write - a commit or stream into an image that is frozen, a snapshot above
one - it opens the file anew by the name it knows. If that is another file's name by now, QEMU goes on with that other
file, silently. If there is no such file, it keeps the one it has.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.commands import Qmp
from planner.operations.overlay import (
    AddOverlay,
    CreateOverlay,
    FreezeName,
    StreamDown,
    TakePath,
    TeachName,
    snapshot_action,
)
from planner.operations.transaction import Transaction
from tests.oracles.guest import SIZE, Guest, open_as_xen_does, pattern, qemu_img
from tests.oracles.machine import Refusal, machine
from tests.oracles.perform import perform, run, undo


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", folder / "disk.qcow2", str(SIZE))
    return folder


@pytest.fixture
def guest(tmp_path: Path, image: Path) -> Iterator[Guest]:
    with machine(tmp_path) as qemu:
        open_as_xen_does(qemu, image / "disk.qcow2")
        there = Guest(image)
        there.qemu = qemu
        there.write(0)
        yield there


@contextmanager
def in_iothread(folder: Path) -> Iterator[Guest]:
    """A disk with two snapshots, in a QEMU that has its socket and what it says in the folder too."""
    images = folder / "images"
    images.mkdir(parents=True)
    qemu_img("create", "-q", "-f", "qcow2", images / "disk.qcow2", str(SIZE))
    with machine(folder) as qemu:
        open_as_xen_does(qemu, images / "disk.qcow2", iothread=True)
        there = Guest(images)
        there.qemu = qemu
        there.write(0)
        for number in (1, 2):
            there.snapshot(f"s{number}", heedless=True)  # no device has it: query-block knows of none
            there.write(number)
        yield there


@pytest.fixture
def guest_in_iothread(tmp_path: Path) -> Iterator[Guest]:
    with in_iothread(tmp_path) as there:
        yield there


@pytest.fixture
def guest_on_base(tmp_path: Path, image: Path) -> Iterator[Guest]:
    """A disk that has an older, frozen image below it from the start: base.qcow2."""
    base, path = image / "base.qcow2", image / "disk.qcow2"
    path.rename(base)
    subprocess.run(["qemu-io", "-c", f"write {pattern(9)}", str(base)], check=True, capture_output=True, timeout=30)
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path)
    with machine(tmp_path) as qemu:
        open_as_xen_does(qemu, path)
        there = Guest(image)
        there.qemu = qemu
        there.write(0)
        yield there


def base_node(guest: Guest) -> str:
    nodes: list[dict[str, Any]] = guest.qemu("query-named-block-nodes")
    name = str(guest.folder / "base.qcow2")
    return next(str(node["node-name"]) for node in nodes if node["file"] == name and node["drv"] == "qcow2")


def file_node(guest: Guest, image: str) -> str:
    graph = guest.qemu("x-debug-query-block-graph")
    names = {node["id"]: str(node["name"]) for node in graph["nodes"]}
    (edge,) = (each for each in graph["edges"] if each["name"] == "file" and names[each["parent"]] == image)
    return names[edge["child"]]


def test_a_snapshot_with_the_path_kept_leaves_every_file_with_its_own_content(guest: Guest) -> None:
    guest.snapshot("s1")
    guest.write(1)
    assert guest.qemu.open_files(guest.folder) == {"disk.qcow2": {"rw"}, "disk.qcow2.s1": {"ro"}}
    assert guest.reads(0, 1)
    assert guest.on_disk(guest.path, 0, 1)


def test_qemu_writes_to_another_file_when_it_opens_a_stale_name_again(guest_on_base: Guest) -> None:
    guest = guest_on_base
    guest.snapshot("s1")
    guest.write(1)
    before = guest.frozen("s1").read_bytes()
    assert guest.stream("n0") == ""  # it says that all is well
    assert guest.frozen("s1").read_bytes() == before  # the image it was to write to is untouched
    assert "disk.qcow2.s1" not in guest.qemu.open_files(guest.folder)  # and no longer open
    assert not guest.on_disk(guest.path, 0, 1)  # the guest's data is lost in the file that has the name now


def test_a_commit_into_a_frozen_image_goes_to_another_file_too(guest: Guest) -> None:
    guest.snapshot("s1")
    guest.write(1)
    before = guest.frozen("s1").read_bytes()
    guest.qemu("block-commit", {"job-id": "j", "device": "n1", "base-node": "n0", "auto-dismiss": False})
    assert guest.qemu.job("j", complete=True) == ""
    assert guest.frozen("s1").read_bytes() == before
    assert guest.qemu.open_files(guest.folder) == {"disk.qcow2": {"rw"}}


def test_qemu_can_be_taught_the_true_name_and_then_writes_to_the_right_file(guest_on_base: Guest) -> None:
    guest = guest_on_base
    guest.snapshot("s1")
    guest.write(1)
    frozen, base = str(guest.frozen("s1")), str(guest.folder / "base.qcow2")
    perform(TeachName("xvda", "", "n0", "f0", frozen, str(guest.path), base_node(guest), "", ""), guest.qemu)
    assert guest.reads(0, 1, 9)
    perform(StreamDown("xvda", "", "n0", frozen, base, "", "", "j"), guest.qemu)
    assert guest.reads(0, 1, 9)
    assert guest.qemu.open_files(guest.folder).keys() == {"disk.qcow2", "disk.qcow2.s1"}
    (guest.folder / "base.qcow2").unlink()
    assert guest.on_disk(guest.path, 0, 1, 9)
    assert guest.on_disk(guest.frozen("s1"), 0, 9)


def test_an_overlay_that_was_frozen_in_turn_can_be_taught_its_name_too(guest: Guest) -> None:
    for number in (1, 2):
        guest.snapshot(f"s{number}")
        guest.write(number)
    frozen = str(guest.frozen("s2"))
    perform(TeachName("xvda", "", "n1", "f1", frozen, f"{guest.path}.s1~new", "n0", "", ""), guest.qemu)
    perform(StreamDown("xvda", "", "n1", frozen, str(guest.frozen("s1")), "", "", "j"), guest.qemu)
    guest.frozen("s1").unlink()
    assert guest.reads(0, 1, 2)
    assert guest.on_disk(guest.path, 0, 1, 2)
    assert guest.on_disk(guest.frozen("s2"), 0, 1)


def test_in_an_iothread_the_file_that_it_had_is_held_until_it_can_be_let_go(guest_in_iothread: Guest) -> None:
    guest, frozen = guest_in_iothread, str(guest_in_iothread.frozen("s2"))
    held = file_node(guest, "n1")
    perform(TeachName("xvda", "", "n1", "f1", frozen, f"{guest.path}.s1~new", "n0", held, "h1"), guest.qemu)
    assert {node["node-name"] for node in guest.qemu("query-named-block-nodes")}.isdisjoint({held, "h1"})
    perform(StreamDown("xvda", "", "n1", frozen, str(guest.frozen("s1")), "", "", "j"), guest.qemu)
    guest.frozen("s1").unlink()
    assert guest.reads(0, 1, 2)
    guest.write(3)
    assert guest.on_disk(guest.path, 0, 1, 2, 3)
    assert guest.on_disk(guest.frozen("s2"), 0, 1)


def test_in_an_iothread_qemu_ends_if_that_file_goes_away_in_the_middle(tmp_path: Path) -> None:
    """Not each time: three times in four, as the thread happens to be."""

    def ends(folder: Path) -> bool:
        with suppress(AssertionError, OSError), in_iothread(folder) as guest:
            if guest.qemu("query-version")["qemu"]["major"] >= 9:
                pytest.skip("since QEMU 9.0 iothreads need no locks")
            frozen = str(guest.frozen("s2"))
            perform(TeachName("xvda", "", "n1", "f1", frozen, f"{guest.path}.s1~new", "n0", "", ""), guest.qemu)
        return "Operation not permitted" in (folder / "qemu.out").read_text()

    assert any(ends(tmp_path / str(number)) for number in range(30))


@pytest.mark.parametrize("deep", [2, 3])
def test_the_active_image_takes_over_the_data_of_the_one_below_it_and_no_other_file_changes(
    guest: Guest, deep: int
) -> None:
    for number in range(1, deep):
        guest.snapshot(f"s{number}")
        guest.write(number)
    newest = guest.frozen(f"s{deep - 1}")
    below, below_node = (str(guest.frozen(f"s{deep - 2}")), guest.nodes[-3]) if deep > 2 else ("", "")
    frozen = {path: path.read_bytes() for path in guest.folder.glob("disk.qcow2.*")}
    perform(StreamDown("xvda", "", guest.nodes[-1], str(guest.path), str(newest), below_node, below, "j"), guest.qemu)
    assert {path: path.read_bytes() for path in frozen} == frozen
    newest.unlink()
    assert guest.reads(*range(deep))
    assert guest.on_disk(guest.path, *range(deep))


def test_an_image_whose_name_is_gone_is_kept_open_and_written_to_rightly(guest: Guest) -> None:
    for number in (1, 2):
        guest.snapshot(f"s{number}")
        guest.write(number)
    assert not Path(f"{guest.path}.s1~new").exists()  # the name by which QEMU knows n1
    assert guest.qemu.open_files(guest.folder)["disk.qcow2.s2"] == {"rw"}  # frozen, and yet it could not be reopened
    assert guest.stream("n1") == ""
    guest.qemu.io("n1", "flush")  # no switch back to read-only did it
    guest.frozen("s1").unlink()
    assert guest.reads(0, 1, 2)
    assert guest.on_disk(guest.path, 0, 1, 2)


def after_delete(guest: Guest) -> None:
    """Bring the guest to where s1 was taken and deleted again: QEMU knows its image as disk.qcow2.s1~new."""
    guest.snapshot("s1")
    guest.write(1)
    perform(StreamDown("xvda", "", "n1", str(guest.path), str(guest.frozen("s1")), "", "", "j"), guest.qemu)
    guest.frozen("s1").unlink()


def test_a_passing_name_that_qemu_knows_already_would_make_it_read_another_file(guest: Guest) -> None:
    after_delete(guest)
    guest.snapshot("s1", heedless=True)
    guest.write(2)
    assert not guest.reads(0)
    assert "disk.qcow2.s1" not in guest.qemu.open_files(guest.folder)


def test_the_check_refuses_a_passing_name_that_qemu_knows_already(guest: Guest) -> None:
    after_delete(guest)
    with pytest.raises(AssertionError, match="query-named-block-nodes"):
        guest.snapshot("s1")


def test_the_same_snapshot_again_under_another_passing_name_harms_nothing(guest: Guest) -> None:
    after_delete(guest)
    guest.snapshot("s1", f"{guest.path}.s1~new2")
    guest.write(2)
    assert guest.reads(0, 1, 2)
    assert guest.on_disk(guest.path, 0, 1, 2)


def test_undoing_everything_brings_back_the_one_image_with_all_that_was_written_since(guest: Guest) -> None:
    guest.snapshot("s1")
    guest.write(1)
    *steps, transaction, take_path = guest.done[0]
    undo(take_path, guest.qemu)  # the path is the image's again before QEMU opens it for writing
    undo(transaction, guest.qemu)
    for step in reversed(steps):
        undo(step, guest.qemu)
    guest.nodes = ["n0"]
    assert sorted(path.name for path in guest.folder.iterdir()) == ["disk.qcow2"]
    assert guest.reads(0, 1)
    assert guest.on_disk(guest.path, 0, 1)
    assert guest.qemu.open_files(guest.folder) == {"disk.qcow2": {"rw"}}


def test_in_an_iothread_undoing_brings_the_image_back_too(guest_in_iothread: Guest) -> None:
    guest = guest_in_iothread
    *steps, transaction, take_path = guest.done[-1]
    undo(take_path, guest.qemu)
    # Whether there is anything to undo it asks query-block, which knows of no disk here.
    run((replace(each, when=()) if isinstance(each, Qmp) else each for each in transaction.undo()), guest.qemu)
    for step in reversed(steps):
        undo(step, guest.qemu)
    guest.nodes = ["n0", "n1"]
    assert guest.reads(0, 1, 2)
    assert guest.on_disk(guest.path, 0, 1, 2)


def test_a_stream_that_an_image_lock_refuses_has_already_opened_the_other_file(tmp_path: Path, image: Path) -> None:
    """As on an HVM guest's emulated drive, which is opened with locks: refusing is not enough."""
    base, path = image / "base.qcow2", image / "disk.qcow2"
    path.rename(base)
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path)
    drive = f"file={path},if=none,id=hd,format=qcow2,cache=writeback,node-name=n0"
    with machine(tmp_path, "-drive", drive, "-device", "virtio-blk-pci,drive=hd,share-rw=on") as qemu:
        guest = Guest(image)
        guest.qemu = qemu
        guest.write(0)
        guest.snapshot("s1")
        with pytest.raises(Refusal, match='Failed to get "write" lock'):
            guest.stream("n0")
        assert "disk.qcow2.s1" not in qemu.open_files(image)
        assert not guest.reads(0)


def test_images_that_a_live_capture_made_inactive_are_reopened_by_their_right_names(guest: Guest) -> None:
    """The window of a live capture of an HVM guest: QEMU hands its images over, and takes them back with `cont`."""
    qemu, new = guest.qemu, f"{guest.path}.s1~new"
    qemu("cont")
    action = snapshot_action("xvda", "", "n0", "n1", new, "job-n1")
    perform(FreezeName("xvda", str(guest.path), str(guest.frozen("s1"))), qemu)
    perform(CreateOverlay("xvda", str(guest.frozen("s1")), new, str(guest.path), SIZE), qemu)
    perform(AddOverlay("xvda", "", new, "n1"), qemu)
    qemu("stop")
    qemu("xen-save-devices-state", {"filename": "/dev/null", "live": True})
    perform(Transaction("", (action,)), qemu)
    perform(TakePath("xvda", str(guest.path), str(guest.frozen("s1")), new), qemu)
    qemu("cont")
    guest.nodes.append("n1")
    guest.write(1)
    assert guest.reads(0, 1)
    assert guest.on_disk(guest.path, 0, 1)
    assert qemu.open_files(guest.folder) == {"disk.qcow2": {"rw"}, "disk.qcow2.s1": {"ro"}}
