"""What is left of an operation when QEMU is killed right after it: what a plan removes next must not be needed then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.operations.overlay import StreamDown, TeachName
from planner.operations.qcow2 import DeleteTag, tag_action
from planner.operations.transaction import Transaction
from tests.oracles.guest import Guest, open_as_xen_does, qemu_img
from tests.oracles.machine import machine
from tests.oracles.perform import perform, undo

FLUSH = ("human-monitor-command", {"command-line": "qemu-io n1 flush"})
STREAM = {"job-id": "j", "device": "n1", "auto-dismiss": False}


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """A disk with one external snapshot, all that was written until then flushed by the guest."""
    folder = tmp_path / "images"
    folder.mkdir()
    there = Guest(folder)
    qemu_img("create", "-q", "-f", "qcow2", there.path, str(there.size))
    with machine(tmp_path) as qemu:
        open_as_xen_does(qemu, there.path)
        there.qemu = qemu
        there.write(0)
        there.snapshot("s1")
        there.write(1)
        qemu.io("n1", "flush")
        yield there


def test_a_snapshot_holds_what_the_guest_wrote_before_it_even_unflushed(guest: Guest) -> None:
    guest.write(2)
    guest.snapshot("s2")
    guest.qemu.end()
    assert guest.holds(guest.frozen("s2"), 0, 1, 2)


def test_an_internal_snapshot_is_there_and_its_deletion_leaves_the_image_whole(guest: Guest) -> None:
    perform(
        Transaction("", (tag_action("xvda", "", "n1", "t1", ""), tag_action("xvda", "", "n1", "t2", ""))), guest.qemu
    )
    perform(DeleteTag("xvda", str(guest.path), "t1", "monitor", "n1"), guest.qemu)
    guest.qemu.end()
    tags = qemu_img("snapshot", "-l", guest.path)
    assert "t2" in tags and "t1" not in tags
    assert "No errors" in qemu_img("check", guest.path)
    assert guest.holds(guest.path, 0, 1)


def test_an_undone_snapshot_has_given_all_back_to_the_image(guest: Guest) -> None:
    guest.write(2)
    *_, transaction, take_path = guest.done[0]
    undo(take_path, guest.qemu)
    undo(transaction, guest.qemu)
    guest.qemu.end()
    assert guest.holds(guest.path, 0, 1, 2)


def test_a_frozen_image_holds_what_was_streamed_into_it_once_the_job_is_over(guest: Guest) -> None:
    guest.snapshot("s2")
    frozen = guest.frozen("s2")
    perform(TeachName("xvda", "", "n1", "f1", str(frozen), f"{guest.path}.s1~new", "n0", "", ""), guest.qemu)
    guest.qemu("block-stream", STREAM)
    assert guest.qemu.job("j") == ""
    guest.qemu.end()
    guest.frozen("s1").unlink()
    assert guest.holds(frozen, 0, 1)


def test_a_job_that_is_over_has_not_yet_written_all_that_it_streamed_into_the_active_image(guest: Guest) -> None:
    if guest.qemu("query-version")["qemu"]["major"] >= 10:
        pytest.skip("QEMU 10.0.13 was seen to write it all by itself")
    guest.qemu("block-stream", STREAM)
    assert guest.qemu.job("j") == ""
    guest.qemu.end()
    assert "backing file:" not in qemu_img("info", guest.path)
    assert not guest.holds(guest.path, 0)  # QEMU still had in its memory where the data lies


def test_the_operation_that_streams_leaves_an_image_that_needs_the_other_one_no_more(guest: Guest) -> None:
    frozen = guest.frozen("s1")
    perform(StreamDown("xvda", "", "n1", str(guest.path), str(frozen), "", "", "j"), guest.qemu)
    guest.qemu.end()
    frozen.unlink()
    assert guest.holds(guest.path, 0, 1)


@pytest.mark.parametrize("killed", ["pending", "flushed", "over"])
def test_a_stream_that_is_flushed_before_it_is_finalized_loses_nothing_at_any_instant(
    guest: Guest, killed: str
) -> None:
    guest.qemu("block-stream", {**STREAM, "auto-finalize": False})
    guest.qemu.job("j", until="pending")
    if killed != "pending":
        assert guest.qemu(*FLUSH) == ""
    if killed == "over":
        guest.qemu("job-finalize", {"id": "j"})
        assert guest.qemu.job("j") == ""
    guest.qemu.end()
    if killed == "over":
        guest.frozen("s1").unlink()
    assert guest.holds(guest.path, 0, 1)


def test_a_flush_of_a_node_that_is_not_there_says_so_in_what_it_returns(guest: Guest) -> None:
    assert "Error" in guest.qemu("human-monitor-command", {"command-line": "qemu-io nope flush"})
