"""A killed `apply`, whatever it was at: `abort` brings back what was, `resume` makes it whole; both can be killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.plan import Verb
from tests.conftest import Survived
from tests.executor.machine import Machine, Outcome
from tests.executor.test_agreement import DISKS, VERBS, Disks, calls
from tests.executor.test_script_host import planned

KILLED = pytest.mark.parametrize("how", ["killed before", "killed, and late", "killed"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m", "qrvtl")


def whole(done: Outcome, state: object, where: str) -> None:
    assert done.status == 0, where
    assert (done.guest, done.monitor) == ("running", "S"), where
    assert done.state == state, where


def uncut(machine: Machine, verb: Verb, disks: Disks) -> object:
    done = machine.run(planned(machine, verb, *disks), shell="")
    assert done.status == 0, done.said
    return done.state


def sweep(machine: Machine, verb: Verb, disks: Disks, how: str, ending: str, first: int = 0, stride: int = 1) -> int:
    """Kill a run at each call in turn; end it by `ending`, which is killed once in the middle first."""
    points = list(calls(machine, verb, disks))[first::stride]
    wanted = uncut(machine, verb, disks)
    for at in points:
        plan = planned(machine, verb, *disks)
        before = machine.state()
        killed = machine.run(plan, "alone", shell="", fault=how, fault_call=at)
        assert killed.status == -9, killed.said
        said = [killed.said]
        for words, nth in ((ending, 2), (ending, 0)):
            done = machine.run(plan, words, shell="", fault="killed", fault_at=nth)
            said.append(f"--- {words}\n{done.said}")
            if done.status != -9:
                break
        where = f"{how} at {at}\n" + "".join(said)
        if ending == "abort" and "cannot be undone any more" in done.said:
            assert done.status == 1, where
            whole(machine.run(plan, "resume", shell=""), wanted, where)
        elif done.status == 3:
            # The undo has restored the domain, as another one: the plan is stale, and all is as it was.
            assert (ending, verb) == ("resume", "revert"), where
            assert "everything was undone" in done.said, where
            whole(replace(done, status=0), before, where)
        else:
            whole(done, before if ending == "abort" else wanted, where)
    return len(points)


def guarded(machine: Machine, verb: Verb, disks: Disks, how: str, first: int, stride: int) -> int:
    points = list(calls(machine, verb, disks))[first::stride]
    wanted = uncut(machine, verb, disks)
    for at in points:
        plan = planned(machine, verb, *disks)
        before = machine.state()
        killed = machine.run(plan, shell="", fault=how, fault_call=at, guarded=True)
        where = f"{how} at {at}\n{killed.said}"
        assert (killed.status, killed.guest, killed.monitor) == (-9, "running", "S"), where
        assert killed.state == (before if "everything was undone" in killed.said else wanted), where
        assert "its guardian lets the guest run on" in killed.said
    return len(points)


@VERBS
def test_the_guardian_of_a_killed_run_lets_the_guest_run_on(machine: Machine, verb: Verb) -> None:
    guarded(machine, verb, (), "killed, and late", 14, 40)


@pytest.mark.slow
@VERBS
@DISKS
@KILLED
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.long)])
def test_the_guardian_lets_the_guest_run_on_at_many_points(
    machine: Machine, verb: Verb, disks: Disks, how: str, stride: int, survived: Survived
) -> None:
    tried = guarded(machine, verb, disks, how, 2 % stride, stride)
    survived(f"{verb}: `apply` killed at a call", tried, "its guardian lets the guest run on; all done, or all undone")


@VERBS
@pytest.mark.parametrize("ending", ["abort", "resume"])
def test_a_run_killed_at_some_call_is_undone_or_finished(machine: Machine, verb: Verb, ending: str) -> None:
    sweep(machine, verb, (), "killed", ending, 7, 40)


@pytest.mark.slow
@VERBS
@DISKS
@KILLED
@pytest.mark.parametrize("ending", ["abort", "resume"])
@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_run_killed_at_many_calls_is_undone_or_finished(
    machine: Machine, verb: Verb, disks: Disks, how: str, ending: str, stride: int, survived: Survived
) -> None:
    # Other calls for each way, so that together they come to most.
    tried = sweep(machine, verb, disks, how, ending, (len(how) + 3 * len(ending) + len(verb)) % stride, stride)
    fault = f"{verb}: `apply` and its guardian killed at a call, then `{ending}`, killed once too"
    survived(fault, tried, {"abort": "undone, or past its commit", "resume": "finished"}[ending])
