"""`apply` and the printed script do the same: the same programs and requests, in the same order, and the same end."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, product
from pathlib import Path

import pytest

from planner.commands import Qmp, Run
from planner.plan import Plan, Verb
from schema import spec as language
from tests.conftest import Survived
from tests.executor.machine import Machine, Outcome
from tests.executor.streams import HEAD, TAIL
from tests.executor.test_script_host import EXTERNAL, planned
from tests.executor.test_stream import record
from tests.golden.test_golden import CASES, compiled
from tests.oracles.shapes import shape

DISKS = pytest.mark.parametrize("disks", [EXTERNAL, ()], ids=["external and copies", "internal and reflink"])
VERBS = pytest.mark.parametrize("verb", ["create", "revert", "delete"])
Disks = tuple[language.Disk, ...]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m", "qrvtl")


def own(call: str) -> bool:
    """Say whether a call is the plan's. A script moves and syncs with programs, and makes its own folders first, and
    the receiver of a live capture; it does not compress."""
    return not call.startswith(("mv ", "sync ", "mkdir -- ", "mkdir -p -- ", "zstd -q ")) and call != "cat "


def trace(outcome: Outcome) -> list[str]:
    """Return the calls of an outcome. How often one looked while it waited is not a part of them."""
    return [call for call, _ in groupby(call for call in outcome.trace if own(call))]


def both(
    machine: Machine, verb: Verb, disks: Disks, fault: str = "", at: tuple[str, int] = ("", 0), also: str = ""
) -> Outcome:
    printed = machine.run(planned(machine, verb, *disks), fault=fault, fault_call=at, also=also)
    applied = machine.run(planned(machine, verb, *disks), fault=fault, fault_call=at, also=also, shell="")
    where = f"{fault} at {at}\n{printed.said}\n{applied.said}"
    assert trace(applied) == trace(printed), where
    assert (applied.status, applied.guest, applied.monitor) == (printed.status, printed.guest, printed.monitor), where
    assert applied.undone == printed.undone, where
    # What QEMU and the host are left with, too; what is written down of the same plan is the same.
    assert applied.state == printed.state, where
    return applied


def calls(machine: Machine, verb: Verb, disks: Disks) -> Iterator[tuple[str, int]]:
    """Yield each call of a plan, with how many times it was made by then."""
    seen: Counter[str] = Counter()
    for call in trace(machine.run(planned(machine, verb, *disks))):
        seen[call] += 1
        yield call, seen[call]


@VERBS
@DISKS
def test_they_agree_when_nothing_fails(machine: Machine, verb: Verb, disks: Disks) -> None:
    done = both(machine, verb, disks)
    assert done.status == 0, done.said


@DISKS
@pytest.mark.parametrize("how", ["before", "after", "signal"])
def test_they_agree_when_some_call_of_a_create_fails(machine: Machine, how: str, disks: Disks) -> None:
    for at in list(calls(machine, "create", disks))[{"before": 5, "after": 17, "signal": 11}[how] :: 29]:
        both(machine, "create", disks, how, at)


@pytest.mark.slow
@VERBS
@DISKS
@pytest.mark.parametrize("how", ["before", "after", "signal"])
def test_they_agree_when_one_of_many_calls_fails(
    machine: Machine, how: str, verb: Verb, disks: Disks, survived: Survived
) -> None:
    points = list(calls(machine, verb, disks))[::4]
    for at in points:
        both(machine, verb, disks, how, at)
    what = {"before": "a call fails", "after": "a call fails after it acted", "signal": "a signal at a call"}[how]
    survived(f"{verb}: {what}", 2 * len(points), "`apply` and the script do the same: undone, or said what is left")


@DISKS
@pytest.mark.parametrize("how", ["before", "after", "signal"])
@pytest.mark.parametrize(
    "stride",
    [17, pytest.param(5, marks=pytest.mark.slow), pytest.param(1, marks=(pytest.mark.slow, pytest.mark.long))],
)
def test_they_agree_on_a_live_capture_whatever_fails(
    machine: Machine, how: str, stride: int, disks: Disks, survived: Survived
) -> None:
    machine.live = True
    points = list(calls(machine, "create", disks))
    (copy,) = (number for number, (each, _) in enumerate(points) if each.startswith("xl migrate"))
    points = points[copy % stride :: stride]
    for at in points:
        planned(machine, "create", *disks)
        before = machine.state()
        done = both(machine, "create", disks, how, at)
        assert done.guest == "running", (at, done.said)
        if done.status not in (0, 6):
            assert (done.state, done.monitor) == (before, "S"), (at, done.said)
    what = {"before": "a call fails", "after": "a call fails after it acted", "signal": "a signal at a call"}[how]
    survived(
        f"live create: {what}", 2 * len(points), "`apply` and the script do the same: undone, or said what is left"
    )


def test_they_agree_on_a_signal_while_a_live_capture_is_let_go(machine: Machine) -> None:
    machine.live = True
    at = ("xl migrate -s  -- 7", 1)
    done = both(machine, "create", (), "signal late", at)
    assert (done.status, done.guest, done.monitor) == (6, "running", "S"), done.said
    printed = machine.run(planned(machine), fault="signal late", fault_call=at)
    assert "interrupted by signal 15" in printed.said and "companion" not in printed.said, printed.said


@pytest.mark.parametrize("how", ["before", "after", "signal"])
@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=(pytest.mark.slow, pytest.mark.long))])
def test_they_agree_on_a_revert_to_compressed_memory_whatever_fails(
    machine: Machine, how: str, stride: int, survived: Survived
) -> None:
    machine.compress = True
    points = list(calls(machine, "revert", ()))
    (pipe,) = (number for number, (each, _) in enumerate(points) if each.startswith("zstd -d"))
    assert points[pipe + 1][0] == "xl restore -- /dev/stdin"
    points = sorted({*points[pipe % stride :: stride], *points[pipe : pipe + 2]})
    for at in points:
        planned(machine, "revert")
        before = machine.state()
        done = both(machine, "revert", (), how, at)
        assert done.guest == "running", (at, done.said)
        if done.status in (1, 5, 128 + 15):
            assert done.state == before, (at, done.said)
        if at[0].startswith("zstd"):
            assert done.status != 0, (at, done.said)
    survived(f"revert to compressed memory, {how}", 2 * len(points), "`apply` and the script do the same")


def test_they_agree_when_what_is_compressed_gets_no_smaller(machine: Machine) -> None:
    """The script leaves it as it came: only then the two leave the same behind."""
    machine.compress = True
    noise = random.Random(1).randbytes(64 * 4096)
    pages = struct.pack("<II", 64, 0) + struct.pack("<64Q", *range(64)) + noise
    machine.image = HEAD + record(1, pages) + TAIL
    for live in (False, True):
        machine.live = live
        done = both(machine, "create", ())
        assert done.status == 0 and "of 0 MiB 0 would be saved" in done.said, done.said


# What nobody can try here; and what differs from what is tried by a word.
ELSEWHERE = (
    "Compact", "tap-ctl", "vhd-util", "rm -f -- _ _", "cp --reflink=always",
    "qemu-img rebase -q -f qcow2 -b ''", "qemu-img convert -U -l", "xl destroy",
)  # fmt: skip


def test_what_reviewed_plans_are_made_of_is_tried_here(tmp_path: Path) -> None:
    tried: set[str] = set()
    for number, (verb, disks) in enumerate(product(("create", "revert", "delete", "live"), (EXTERNAL, ()))):
        machine = Machine(tmp_path / str(number), "qrvtl")
        machine.live, verb = verb == "live", verb.replace("live", "create")
        machine.compress = not disks
        tried.update(made_of(planned(machine, verb, *disks)))  # type: ignore[arg-type]
    for case in CASES:
        left = {
            each for each in set(made_of(compiled(case))) - tried if not each.partition(": ")[2].startswith(ELSEWHERE)
        }
        assert not left, case.name


def made_of(plan: Plan) -> Iterator[str]:
    """Yield the shapes of all commands of a plan, each with what it is for."""
    for step in plan.steps:
        for part, commands in (("check", step.checks), ("do", step.do), ("look", step.after), ("undo", step.undo)):
            for command in commands:
                kind = shape(command.argv) if isinstance(command, Run) else type(command).__name__
                yield f"{part}: {kind} {command.execute if isinstance(command, Qmp) else ''}"


METHODS: dict[str, tuple[str, tuple[language.Method, ...]]] = {
    "q": ("xvda", ("internal", "external")), "r": ("xvdb", ("copy",)), "v": ("xvdc", ("lvm",)),
    "t": ("xvdd", ("lvm",)), "l": ("xvde", ("copy",)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(12, 24))])
def test_they_agree_on_any_mixture_also_when_an_undo_fails(tmp_path: Path, seed: int, survived: Survived) -> None:
    chosen = random.Random(seed)
    letters = [letter for letter in METHODS if chosen.random() < 0.6] or ["q"]
    machine = Machine(tmp_path / "m", "".join(letters))
    disks = tuple(language.Disk(METHODS[each][0], chosen.choice(METHODS[each][1])) for each in letters)
    verb: Verb = chosen.choice(["create", "create", "revert", "delete"])
    points = list(calls(machine, verb, disks))
    for _ in range(4):
        at, how = chosen.choice(points), chosen.choice(["before", "after"])
        plan = planned(machine, verb, *disks)
        undos = [" ".join(c.argv) for step in plan.steps for c in step.undo if isinstance(c, Run)]
        both(machine, verb, disks, how, at, chosen.choice(undos) if undos else "")
    survived(
        "a call of any verb fails, and then an undo too", 8, "`apply` and the script do the same, and say what is left"
    )
