"""A fault at each step of each verb in turn, around a guest that runs; then what an administrator would do next."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.sandbox import domains
from tests.sandbox.host import Sandbox
from tests.sandbox.sharing import sharing_blocks
from tests.sandbox.test_apply import domsnap, spec, start, unfinished, whole

pytestmark = [pytest.mark.slow, pytest.mark.long]
VERBS = {"create": (), "revert": ("--revert",), "delete": ("--delete",)}
MIXTURES: dict[str, tuple[Mapping[str, str], dict[str, str]]] = {
    "external": ({"xvda": "qcow2", "xvdb": "raw", "xvdc": "job"}, {"xvda": "external"}),
    "internal": ({"xvda": "qcow2"}, {"xvda": "internal"}),
    "reflink": ({"xvda": "raw", "xvdb": "job"}, {"xvda": "reflink", "xvdb": "reflink"}),
}


def kill(box: Sandbox) -> None:
    there = domains.find(box.root, "web01")
    if there and domains.alive(there.device_model):
        os.kill(there.device_model[0], signal.SIGKILL)


def destroy(box: Sandbox) -> None:
    if domains.find(box.root, "web01"):
        box.xl("destroy", "web01")


FAULTS: dict[str, Callable[[Sandbox], None]] = {"QEMU is killed": kill, "the guest is destroyed": destroy}


@pytest.fixture(params=MIXTURES)
def mixture(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield a mixture by its name, while its disks have a filesystem that its methods need."""
    if request.param != "reflink":
        yield request.param
        return
    with sharing_blocks(tmp_path) as _places["reflink"]:
        yield request.param
    del _places["reflink"]


_places: dict[str, Path] = {}


def prepared(verb: str, mixture: str) -> tuple[Sandbox, str]:
    """Return a host with a guest, and the spec of a snapshot, which is there unless it is to be taken."""
    kinds, methods = MIXTURES[mixture]
    if place := _places.get(mixture):
        shutil.rmtree(place)  # of the guest before
        place.mkdir()
    box = Sandbox(srv=place)
    box.create("web01", kinds)
    file = spec(box, methods=methods)
    if verb != "create":
        domsnap(box, "apply", file, "--yes")
        box.runs_on("web01", 20)
    return box, file


def applied(box: Sandbox, file: str, verb: str, at: int, act: Callable[[Sandbox], None]) -> tuple[int, str, int]:
    """Apply, and do something when a step begins; return exit status, what was said, and how many steps there are."""
    with start(box, "apply", file, "--yes", *VERBS[verb]) as process:
        assert process.stderr
        said, steps = "", 0
        for line in process.stderr:
            said += line
            if step := re.match(r"\[(\d+)/(\d+)\]", line):
                steps = int(step[2])
                if int(step[1]) == at:
                    act(box)
        process.communicate(timeout=120)
    return process.returncode, said, steps


def sweep(verb: str, mixture: str, fault: str) -> int:
    """Make a fault at each step in turn; return how many there are."""
    at = steps = 1
    while at <= steps:
        box, file = prepared(verb, mixture)
        with box:
            status, said, steps = applied(box, file, verb, at, FAULTS[fault])
            try:
                aftermath(box, file, status, said, leaks=fault == "QEMU is killed")
            except BaseException:
                print(f"at step {at} of {steps}, exit status {status}\n{said}")
                raise
        at += 1
    return steps


def kills(verb: str, mixture: str, stride: int = 1) -> int:
    """Kill `apply` at each line of its journal in turn, that is before and after each command, or at one in `stride`;
    return how often."""
    times, at = 0, 1
    while True:
        box, file = prepared(verb, mixture)
        with box:
            words = (str(at), "apply", file, "--yes", *VERBS[verb])
            with start(box, *words, module="tests.sandbox.killed") as process:
                said = "".join(process.communicate(timeout=120))  # to its end: the guardian has it too
            if process.returncode == 0:
                return times
            assert process.returncode == -signal.SIGKILL, said
            try:
                whole(box)
                aftermath(box, file, 5, said)
            except BaseException:
                print(f"at line {at}\n{said}")
                raise
        times, at = times + 1, at + stride


def settle(box: Sandbox, said: str) -> str:
    """Do what was said, until nothing is unfinished."""
    for word in ("resume", "abort", "resume", "abort"):
        if unfinished(box):
            if re.search("xl destroy -- [0-9]+$", said, re.MULTILINE):
                destroy(box)
            with start(box, word, "web01", "--store", str(box.store)) as process:
                said += f"--- {word}\n" + "".join(process.communicate(timeout=120))
    if unfinished(box) and not domains.find(box.root, "web01"):  # its memory was lost half written
        box.xl("create", str(box.root / "web01.cfg"))
        said += domsnap(box, "abort", "web01", "--store", str(box.store))
    assert not unfinished(box), said
    return said


def together(box: Sandbox) -> None:
    """As `whole`, but for what a guest that died in the middle of a count has not written to all disks."""
    box.runs_on("web01")
    assert box.instant("web01").tear == ""


def aftermath(box: Sandbox, file: str, status: int, said: str, *, leaks: bool = False) -> None:
    """Hold that no image is hurt, that the domain can be started from its configuration, and that each snapshot that is
    there can be gone back to; that what was left has a name, and that in the end nothing is."""
    assert status in (0, 1, 3, 5, 6), said
    assert not re.search(r"/(domsnap|executor|planner|schema)/\w+\.py", said), said
    said = settle(box, said)
    destroy(box)
    assert box.hurt(leaks=leaks) == ""
    box.xl("create", str(box.root / "web01.cfg"))
    # It begins with what its disks say, which a guest that died has left in the middle of a count.
    box.runs_on("web01")
    box.runs_on("web01")
    assert box.instant("web01").tear == "", said
    records = {path.parent.name: path.read_text() for path in sorted(box.store.glob("web01/*/record.json"))}
    half = [name for name, text in records.items() if '"state": "deleting"' in text]  # a copy ended with its QEMU
    for snapshot in (name for name in records if name not in half):
        assert half or domsnap(box, "verify", "web01", "--store", str(box.store))
        late = box.mark("web01").counter
        box.runs_on("web01")
        domsnap(box, "apply", spec(box, snapshot), "--revert", "--discard-current", "--yes")
        assert box.mark("web01").counter < late + 2 or snapshot.startswith("pre-revert")
        together(box)
    for snapshot in (*half, *(name for name in records if name not in half)):
        domsnap(box, "apply", spec(box, snapshot), "--delete", "--yes")
    domsnap(box, "apply", file, "--yes")
    together(box)
    domsnap(box, "apply", file, "--delete", "--yes")
    destroy(box)
    assert box.hurt(leaks=leaks) == ""
    left = {path.name for path in box.srv.iterdir()} - {path.name for path in disks(box)}
    assert all(name in said for name in left), (left, said)


def disks(box: Sandbox) -> Iterator[Path]:
    """Yield the paths of the domain's configuration."""
    for path in re.findall(r"target=([^']+)", (box.root / "web01.cfg").read_text()):
        yield Path(path)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_a_step_leaves_sound_disks_and_snapshots(
    fault: str, verb: str, mixture: str, survived: Survived
) -> None:
    tried = sweep(verb, mixture, fault)
    survived(f"{verb}, {mixture}: {fault}, at each step", tried, "disks and snapshots are sound; what is left is named")


@pytest.mark.parametrize("stride", [1, 11])  # a few of them in each phase of a plan
@pytest.mark.parametrize("verb", VERBS)
def test_an_apply_that_is_killed_at_any_command_leaves_a_guest_that_runs(
    verb: str, stride: int, mixture: str, survived: Survived
) -> None:
    tried = kills(verb, mixture, stride)
    survived(
        f"{verb}, {mixture}: `apply` of a real QEMU guest killed before and after one command in {stride}", tried,
        "its guardian lets the guest run on; disks and every snapshot are sound",
    )  # fmt: skip
