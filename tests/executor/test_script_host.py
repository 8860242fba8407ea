"""Generated scripts on a host that keeps its state: whatever fails, afterwards it is as before, and the guest runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.script import script
from planner.commands import Run
from planner.compile import compile_plan
from planner.plan import Plan, Verb, rollback
from schema import spec as language
from tests.executor.machine import Machine, Outcome
from tests.planner.hosts import GIB, taken

EXTERNAL = (
    language.Disk("xvda", "external"), language.Disk("xvdb", "copy"), language.Disk("xvdc", "lvm", size=GIB),
    language.Disk("xvde", "copy"),
)  # fmt: skip
SHELLS = ("dash", "busybox sh", "bash --posix")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m", "qrvtl")


def planned(machine: Machine, verb: Verb = "create", *disks: language.Disk, shell: str = "dash") -> Plan:
    """Set the machine up anew and return the plan; for revert and delete, the snapshot is taken first."""
    machine.put()
    spec, there = machine.spec(*disks), machine.facts()
    plan = compile_plan("create", spec, there)
    if verb == "create":
        return plan
    # Scripts do not compress.
    assert machine.run(plan, shell="" if machine.compress else shell).status == 0
    return compile_plan(verb, spec, machine.seen(taken(spec, there)))


def call(outcome: Outcome, words: str) -> int:
    return next(number for number, each in enumerate(outcome.trace, 1) if each.startswith(words))


@pytest.mark.parametrize("shell", SHELLS)
def test_create_then_revert_and_delete_work_in_every_shell(machine: Machine, shell: str) -> None:
    for verb in ("revert", "delete"):
        done = machine.run(planned(machine, verb, shell=shell), shell=shell)
        assert (done.status, done.guest, done.monitor) == (0, "running", "S"), done.said
    assert not (machine.root / "store/web01/before-upgrade").exists()
    assert (machine.root / "store/web01/current").read_text() == "\n"


@pytest.mark.parametrize("disks", [EXTERNAL, ()], ids=["external and copies", "internal and reflink"])
def test_a_snapshot_with_its_sealed_memory_is_there_when_it_says_so(
    machine: Machine, disks: tuple[language.Disk, ...]
) -> None:
    done = machine.run(planned(machine, "create", *disks))
    assert done.status == 0, done.said
    folder = machine.root / "store/web01/before-upgrade"
    assert (folder / "memory").read_bytes() == (machine.model / "image").read_bytes()
    assert (folder / "memory.sha256").read_text().endswith(f"  {folder}/memory\n")
    assert not [path for path in folder.iterdir() if path.name.endswith(".part")]


def faults(machine: Machine, verb: Verb, disks: tuple[language.Disk, ...], how: str, first: int, stride: int) -> None:
    plan = planned(machine, verb, *disks)
    clean = machine.run(plan)
    commands = [c for s in plan.steps for c in (*s.do, *s.undo) if isinstance(c, Run)]
    checks = [c for s in plan.steps for c in (*s.checks, *s.do, *s.after) if isinstance(c, Run)]
    patient = {" ".join(c.argv) for c in checks if c.within}
    guards = {" ".join(guard) for c in commands for guard in (c.when, c.unless) if guard}
    commit = call(clean, "xl restore" if verb == "revert" else "xl unpause")
    for number in range(first, commit, stride):
        if clean.trace[number - 1] in guards:
            continue  # a guard that lies is another program's fault
        plan = planned(machine, verb, *disks)
        before = machine.state()
        done = machine.run(plan, fault_at=number, fault=how)
        where = f"{how} at {clean.trace[number - 1]}\n{done.said}"
        if done.status == 0:  # a program that is asked again until it answers as it should
            assert how == "after" or clean.trace[number - 1] in patient, where
            continue
        assert (done.guest, done.monitor) == ("running", "S"), where
        assert done.status in ((128 + 15,) if how == "signal" else (1, 3, 5)), where
        assert done.state == before, where
        order = [step.number for step in rollback(plan.steps) if step.number in done.undone]
        assert list(done.undone) == order, where


@pytest.mark.parametrize("how,first", [("before", 3), ("after", 6), ("signal", 9)])
def test_a_fault_at_some_call_of_a_create_leaves_all_as_it_was(machine: Machine, how: str, first: int) -> None:
    faults(machine, "create", EXTERNAL, how, first, 11)


@pytest.mark.slow
@pytest.mark.parametrize("disks", [EXTERNAL, ()], ids=["external and copies", "internal and reflink"])
@pytest.mark.parametrize("verb", ["create", "revert"])
@pytest.mark.parametrize("how", ["before", "after", "signal"])
def test_a_fault_at_any_call_leaves_all_as_it_was(
    machine: Machine, how: str, verb: Verb, disks: tuple[language.Disk, ...]
) -> None:
    faults(machine, verb, disks, how, 1, 1)


def test_a_signal_inside_a_qmp_request_does_not_mix_up_the_answers(machine: Machine) -> None:
    plan = planned(machine, "create", *EXTERNAL)
    clean = machine.run(plan)
    for number, each in enumerate(clean.trace, 1):
        if each in ("qmp blockdev-add", "qmp transaction"):
            plan = planned(machine, "create", *EXTERNAL)
            before = machine.state()
            done = machine.run(plan, fault_at=number, fault="signal")
            assert (done.status, done.guest, done.state) == (143, "running", before), done.said


@pytest.mark.parametrize("verb", ["create", "revert"])
def test_a_rename_that_was_never_done_can_be_undone(machine: Machine, verb: Verb) -> None:
    clean = machine.run(planned(machine, verb, *EXTERNAL))
    plan = planned(machine, verb, *EXTERNAL)
    before = machine.state()
    done = machine.run(plan, fault_at=call(clean, "mv "), fault="before")
    assert (done.status, done.guest, done.state) == (5, "running", before), done.said


def test_a_signal_between_the_commit_and_the_guest_waits_for_the_guest(machine: Machine) -> None:
    plan = planned(machine)
    clean = machine.run(plan)
    plan = planned(machine)
    done = machine.run(plan, fault_at=call(clean, "xl unpause"), fault="signal")
    assert (done.status, done.guest, done.monitor) == (6, "running", "S"), done.said
    assert "nothing is undone any more" in done.said


def test_what_depends_on_an_undo_that_failed_is_left_and_said(machine: Machine) -> None:
    plan = planned(machine, "create", *EXTERNAL)
    clean = machine.run(plan)
    plan = planned(machine, "create", *EXTERNAL)
    unpause = "xl unpause -- 7"
    done = machine.run(plan, fault_at=call(clean, "cp --reflink=never"), fault="before", also=unpause)
    (stop,) = (step for step in plan.steps if any(isinstance(c, Run) and c.argv[1] == "save" for c in step.do))
    needing = [step.number for step in plan.steps if stop.number in step.undo_needs]
    assert needing and done.status == 6, done.said
    assert f"    {unpause}" in done.said.splitlines()
    for number in needing:
        assert f"  step {number} is left as it is: it needs the undo of step {stop.number}" in done.said.splitlines()
    undoable = {step.number for step in rollback(plan.steps) if step.number <= stop.number + 1}
    assert set(done.undone) == undoable - set(needing)


@pytest.mark.parametrize("domain", ["8 running", "7 paused"])
def test_another_domain_or_state_is_stale_before_any_monitor_is_touched(machine: Machine, domain: str) -> None:
    plan = planned(machine, "create", *EXTERNAL)
    (machine.model / "domain").write_text(f"{domain}\n")
    before = machine.state()
    done = machine.run(plan)
    assert (done.status, done.state) == (3, before), done.said
    assert not any(each.startswith("qmp") for each in done.trace)


def test_without_python_nothing_is_begun(machine: Machine) -> None:
    plan = planned(machine, "create", *EXTERNAL)
    (machine.root / "bin/python3").write_text("#!/bin/sh\nexit 127\n")
    before = machine.state()
    done = machine.run(plan)
    assert (done.status, done.guest, done.state) == (1, "running", before), done.said


def test_a_companion_that_dies_while_the_guest_stands_still_does_not_keep_it_so(machine: Machine) -> None:
    plan = planned(machine, "create", *EXTERNAL)
    clean = machine.run(plan)
    plan = planned(machine, "create", *EXTERNAL)
    done = machine.run(plan, fault_at=call(clean, "xl save"), fault="orphaned")
    assert (done.status, done.guest, done.monitor) == (6, "running", "S"), done.said
    assert "the companion has ended" in done.said and "socat" in done.said


@pytest.mark.parametrize("words", ["cp --reflink=never", "lvcreate", "mv ", "kill -s STOP"])
def test_a_companion_that_dies_in_a_live_capture_does_not_keep_the_guest(machine: Machine, words: str) -> None:
    machine.live = True
    clean = machine.run(planned(machine, "create", *EXTERNAL))
    done = machine.run(planned(machine, "create", *EXTERNAL), fault_at=call(clean, words), fault="orphaned")
    assert (done.status, done.guest, done.monitor) == (6, "running", "S"), done.said
    assert "the companion has ended" in done.said and "socat" in done.said


@pytest.mark.parametrize("shell", SHELLS)
def test_a_live_script_that_cannot_hold_the_guest_undoes_everything(
    machine: Machine, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.live = True
    plan, whole = planned(machine), script
    before = machine.state()
    monkeypatch.setattr("tests.executor.machine.script", lambda plan: whole(plan).replace("live/answer", "gone/answer"))
    done = machine.run(plan, shell=shell)
    assert (done.status, done.guest, done.monitor, done.state) == (5, "running", "S", before), done.said


def test_how_far_a_live_script_is_is_said_now_and_then(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.live = True
    plan, whole = planned(machine), script
    monkeypatch.setattr(
        "tests.executor.machine.script", lambda plan: whole(plan).replace("SELDOM = 10.0", "SELDOM = 0")
    )
    done = machine.run(plan)
    assert done.status == 0, done.said
    first, last = (line for line in done.said.splitlines() if line.startswith("  memory: "))
    assert first.endswith("; the guest runs") and last.endswith("now it stands still")


def test_a_killed_script_lets_the_lock_go(machine: Machine) -> None:
    plan = planned(machine, "create", *EXTERNAL)
    clean = machine.run(plan)
    plan = planned(machine, "create", *EXTERNAL)
    assert machine.run(plan, fault_at=call(clean, "ln "), fault="killed").status == -9
    again = machine.run(plan)
    assert again.status == 1, again.said  # what the killed one left is in the way; the lock is not


def test_messages_that_nobody_reads_stop_nothing(machine: Machine) -> None:
    plan = planned(machine)
    done = machine.run(plan, unread=True)
    assert (done.status, done.guest) == (0, "running")


def test_a_memory_image_that_was_cut_is_not_published(machine: Machine) -> None:
    plan = planned(machine)
    image = machine.model / "image"
    image.write_bytes(image.read_bytes()[:-8])
    done = machine.run(plan)
    assert (done.status, done.guest) == (6, "running"), done.said
    assert "it ends inside a record" in done.said
    assert not (machine.root / "store/web01/before-upgrade/memory").exists()
    assert not (machine.root / "store/web01/before-upgrade/record.json").exists()


@pytest.mark.parametrize("live", [False, True])
def test_a_check_changes_nothing(machine: Machine, live: bool) -> None:
    machine.live = live
    plan = planned(machine, "create", *EXTERNAL)
    before = machine.state()
    done = machine.run(plan, "--check")
    assert (done.status, done.state, done.guest) == (0, before, "running"), done.said
