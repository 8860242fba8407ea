"""Stories of stacked and branching snapshots, each told on the model host."""

from __future__ import annotations

import itertools

import pytest

from schema.diagnostic import Refused
from tests.model.host import Host
from tests.model.play import (
    METHODS,
    Taken,
    declared,
    hold_guest,
    hold_no_leftovers,
    hold_snapshots,
    plan_on,
    present,
    run,
    take,
)

ALL = {"xvda": "qcow2", "xvdb": "raw", "xvdc": "thick", "xvdd": "thin", "xvde": "job", "xvdf": "qcow2"}
EXTERNAL = {"xvda": "external"}


def revert(host: Host, snapshots: dict[str, Taken], to: str, number: int) -> None:
    """Revert, and note the present as the snapshot that it becomes."""
    kept = present(host)
    run(host, plan_on(host, "revert", declared(to)))
    snapshots[f"pre-revert-{number}"] = kept
    assert host.ram == (snapshots[to].ram or 0)
    assert {vdev: host.seen(vdev) for vdev in host.kinds} == snapshots[to].disks


def delete(host: Host, snapshots: dict[str, Taken], name: str) -> None:
    run(host, plan_on(host, "delete", declared(name)))
    del snapshots[name]


def hold(host: Host, snapshots: dict[str, Taken]) -> None:
    hold_guest(host)
    hold_snapshots(host, snapshots)
    hold_no_leftovers(host)


def every_one_comes_back(host: Host, snapshots: dict[str, Taken]) -> None:
    for name, taken in snapshots.items():
        other = host.copy()
        run(other, plan_on(other, "revert", declared(name)))
        assert {vdev: other.seen(vdev) for vdev in other.kinds} == taken.disks, name
        assert other.ram == (taken.ram or 0)
        hold_guest(other)


@pytest.mark.parametrize(
    "methods", [{}, {"xvda": "external", "xvdb": "copy", "xvde": "copy", "xvdf": "external"}], ids=["default", "other"]
)
def test_a_snapshot_of_every_kind_of_disk_comes_back_and_goes_without_a_trace(methods: dict[str, str]) -> None:
    host = Host(ALL)
    host.write(1)
    snapshots = {"one": take(host, "one", methods)}  # type: ignore[arg-type]
    hold(host, snapshots)
    host.write(2)
    hold(host, snapshots)
    revert(host, snapshots, "one", 1)
    hold(host, snapshots)
    revert(host, snapshots, "pre-revert-1", 2)
    hold(host, snapshots)
    for name in ("pre-revert-2", "one", "pre-revert-1"):
        try:
            delete(host, snapshots, name)
        except Refused:
            continue
        hold(host, snapshots)
    every_one_comes_back(host, snapshots)


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two", "three"])), ids="-".join)
@pytest.mark.parametrize("kind", ["external", "internal", "mixed"])
@pytest.mark.parametrize("off", [False, True], ids=["running", "off"])
def test_three_on_top_of_each_other_are_deleted_in_any_order(order: tuple[str, ...], kind: str, off: bool) -> None:
    host, snapshots = Host({"xvda": "qcow2"}), {}
    for number, name in enumerate(("one", "two", "three"), 1):
        host.write(number)
        method = kind if kind != "mixed" else ("internal", "external")[number % 2]
        snapshots[name] = take(host, name, {"xvda": method})  # type: ignore[dict-item]
    host.write(4)
    if off:
        host.stop()
    waiting = list(order)
    while waiting:
        before = len(waiting)
        for name in list(waiting):
            if kind == "mixed" and refused(host, name):
                continue
            delete(host, snapshots, name)
            waiting.remove(name)
            hold(host, snapshots)
            every_one_comes_back(host, snapshots)
        assert len(waiting) < before, f"nothing of {waiting} can be deleted"
    assert host.lasting("xvda") == [3, 4, 2]
    hold_no_leftovers(host)


@pytest.mark.parametrize("order", list(itertools.permutations(["two", "three", "four", "pre-revert-1"])), ids="-".join)
def test_a_branch_off_the_first_of_three_and_the_others_deleted_one_by_one(order: tuple[str, ...]) -> None:
    host, snapshots = Host({"xvda": "qcow2", "xvdb": "thin"}), {}
    for number, name in enumerate(("one", "two", "three"), 1):
        host.write(number)
        snapshots[name] = take(host, name, EXTERNAL)  # type: ignore[arg-type]
    host.write(4)
    revert(host, snapshots, "one", 1)
    host.write(5)
    snapshots["four"] = take(host, "four", EXTERNAL)  # type: ignore[arg-type]
    host.write(6)
    hold(host, snapshots)
    every_one_comes_back(host, snapshots)
    waiting = list(order)
    while waiting:
        name = next((name for name in waiting if not refused(host, name)), "")
        assert name, f"nothing of {waiting} can be deleted"
        delete(host, snapshots, name)
        waiting.remove(name)
        hold(host, snapshots)
        every_one_comes_back(host, snapshots)
    delete(host, snapshots, "one")
    hold(host, snapshots)


def refused(host: Host, name: str) -> bool:
    try:
        plan_on(host, "delete", declared(name))
    except Refused:
        return True
    return False


def test_an_internal_snapshot_outlives_the_freezing_of_its_image() -> None:
    host, snapshots = Host({"xvda": "qcow2"}), {}
    host.write(1)
    snapshots["inside"] = take(host, "inside", {"xvda": "internal"})
    host.write(2)
    snapshots["outside"] = take(host, "outside", {"xvda": "external"})
    host.write(3)
    hold(host, snapshots)
    assert refused(host, "inside")
    every_one_comes_back(host, snapshots)
    revert(host, snapshots, "inside", 1)
    hold(host, snapshots)


def test_a_thick_volume_reverts_to_the_middle_one_of_three_and_back() -> None:
    host, snapshots = Host({"xvda": "thick"}), {}
    for number, name in enumerate(("one", "two", "three"), 1):
        host.write(number)
        snapshots[name] = take(host, name)
    host.write(4)
    for number, name in enumerate(("two", "three", "one", "pre-revert-1"), 1):
        revert(host, snapshots, name, number)
        host.write(10 + number)
        hold(host, snapshots)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "given up"])
def test_a_domain_that_is_off_is_reverted_and_runs(keep: bool) -> None:
    host = Host(ALL)
    host.write(1)
    snapshots = {"one": take(host, "one")}
    host.write(2)
    kept = {vdev: host.seen(vdev) for vdev in host.kinds}
    host.stop()
    run(host, plan_on(host, "revert", declared("one"), discard_current=not keep))
    if keep:
        snapshots["pre-revert-1"] = Taken(None, kept)
    assert host.domid is not None and host.ram == 1
    hold(host, snapshots)


def test_the_same_name_again_under_the_same_qemu_harms_nothing() -> None:
    host, snapshots = Host({"xvda": "qcow2"}), {}
    for number in range(1, 5):
        host.write(number)
        snapshots["again"] = take(host, "again", EXTERNAL)  # type: ignore[arg-type]
        host.write(10 * number)
        hold(host, snapshots)
        delete(host, snapshots, "again")
        hold(host, snapshots)


def test_a_clone_of_a_frozen_image_is_left_alone() -> None:
    host, snapshots = Host({"xvda": "qcow2"}), {}
    host.write(1)
    snapshots["one"] = take(host, "one", EXTERNAL)  # type: ignore[arg-type]
    host.files.make("/srv/vm/clone.qcow2", "qcow2", backing="/srv/vm/xvda.qcow2.one")
    with pytest.raises(Refused) as caught:
        plan_on(host, "delete", declared("one"))
    assert "/srv/vm/clone.qcow2" in caught.value.diagnostics[0].detail


def test_every_method_is_played() -> None:
    assert {method for each in METHODS.values() for method in each} == {
        "internal",
        "external",
        "reflink",
        "copy",
        "lvm",
    }
