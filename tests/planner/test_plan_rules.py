"""The rules of a whole plan, each tested over plans of every verb, method and type of domain."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from planner.commands import Capture, Compact, Qmp, Rename, Run
from planner.compile import compile_plan
from planner.plan import PHASES, Plan, Step, plan_from_json, rollback
from tests.planner.scenarios import plans, situations

PLANS = list(plans())
every = pytest.mark.parametrize("plan", [plan for _, plan in PLANS], ids=[name for name, _ in PLANS])


def first(plan: Plan, effect: str) -> int:
    return next((step.number for step in plan.steps if step.effect == effect), 0)


@every
def test_phases_follow_each_other(plan: Plan) -> None:
    phases = [PHASES.index(step.phase) for step in plan.steps]
    assert phases == sorted(phases)
    assert [step.number for step in plan.steps] == list(range(1, len(plan.steps) + 1))


@every
def test_nothing_is_checked_while_the_guest_stands_still(plan: Plan) -> None:
    assert not any(step.checks for step in plan.steps if step.phase == "freeze")


@every
def test_a_guest_that_is_stopped_is_let_go_in_the_same_plan(plan: Plan) -> None:
    stops = [step for step in plan.steps if step.effect == "stop"]
    assert len(stops) <= 1
    if stops and plan.verb == "create":
        assert first(plan, "go") > stops[0].number


@every
def test_every_step_up_to_the_commit_that_changes_anything_can_be_undone(plan: Plan) -> None:
    given_up = any("present given up" in warning.text or "stays off" in warning.text for warning in plan.warnings)
    for step in plan.steps:
        if step.number <= plan.commit and step.effect != "check" and plan.verb != "delete":
            if step.effect == "stop" and (given_up or not step.undo):
                assert plan.verb == "revert"  # the memory of a domain that was destroyed is gone, and the plan says so
                assert any(line.startswith("memory: what") for line in plan.destroys)
            elif "back to its snapshot" in step.title or "merge " in step.title:
                assert step.undo or plan.destroys
            else:
                assert step.undo, step.title


@every
def test_there_is_one_commit_point_and_it_lies_after_the_freeze(plan: Plan) -> None:
    assert [step.commit for step in plan.steps].count(True) == 1
    frozen = [step.number for step in plan.steps if step.phase == "freeze"]
    if frozen:
        assert plan.commit >= max(frozen)


@every
def test_the_transaction_is_the_last_thing_but_the_renames_in_the_freeze(plan: Plan) -> None:
    frozen = [step for step in plan.steps if step.phase == "freeze"]
    at = [index for index, step in enumerate(frozen) if _transacts(step)]
    assert len(at) <= 1
    for step in frozen[at[0] + 1 :] if at else ():
        assert all(isinstance(command, Rename) for command in step.do), step.title


def _transacts(step: Step) -> bool:
    return any(
        isinstance(command, Qmp) and command.execute == "transaction" and not command.error for command in step.do
    )


@every
def test_paths_are_taken_over_before_the_guest_runs_again(plan: Plan) -> None:
    go = first(plan, "go")
    for step in plan.steps:
        if "takes over" in step.title and go:
            assert step.phase == "freeze" and step.number < go


@every
def test_memory_is_written_before_any_disk_is_touched_in_the_freeze(plan: Plan) -> None:
    frozen = [step for step in plan.steps if step.phase == "freeze"]
    if frozen and any(step.effect == "stop" for step in frozen):
        assert frozen[0].effect == "stop"


@every
def test_undos_run_newest_first_and_let_the_guest_go_as_soon_as_no_undo_needs_it(plan: Plan) -> None:
    order = rollback(plan.steps)
    ranks = [("held", "thaw", "free").index(step.undo_when) for step in order]
    assert ranks == sorted(ranks)
    for earlier, later in pairwise(order):
        if earlier.undo_when == later.undo_when:
            assert earlier.number > later.number
    for step in plan.steps:
        if step.effect == "stop" and step.undo:
            assert step.undo_when == "thaw"


@every
def test_what_an_undo_needs_is_undone_before_it(plan: Plan) -> None:
    place = {step.number: index for index, step in enumerate(rollback(plan.steps))}
    for step in plan.steps:
        for needed in step.undo_needs:
            if needed in place and step.number in place:
                assert place[needed] < place[step.number], (step.title, needed)


@every
def test_after_a_live_capture_no_disk_is_undone_before_the_guest_runs_again(plan: Plan) -> None:
    """It runs again as soon as its receiver is gone, whatever anybody wants; until then QEMU may have let go of the
    images of an HVM guest."""
    live = next((step for step in plan.steps if any(isinstance(command, Capture) for command in step.do)), None)
    if live:
        assert not [step for step in plan.steps if step.undo_when == "held"]
        for step in plan.steps:
            if live.number < step.number <= plan.commit and step.undo and step.phase == "freeze":
                offline = [c for c in step.undo if isinstance(c, Run) and c.argv[0] == "qemu-img"]
                if "overlay" in step.title or "takes over" in step.title or "internal" in step.title:
                    assert live.number in step.undo_needs and not offline, step.title


@every
def test_the_record_is_the_last_thing_published(plan: Plan) -> None:
    """What comes after it does nothing that the snapshot needs."""
    optional = [any(isinstance(command, Compact) for command in step.do) for step in plan.steps]
    assert sorted(optional) == optional
    titles = [step.title for step in plan.steps[: len(plan.steps) - sum(optional)]]
    if plan.verb == "create":
        assert titles[-2].startswith("write the record of") and titles[-1].startswith("note that")


@every
def test_a_plan_is_the_same_bytes_again_and_survives_being_saved(plan: Plan) -> None:
    saved = json.loads(plan.text())
    assert plan_from_json(saved) == plan
    assert plan_from_json(saved).text() == plan.text()
    assert saved["id"] == plan.id and len(plan.id) == 64


@every
def test_a_plan_that_was_changed_after_it_was_saved_is_refused(plan: Plan) -> None:
    saved = json.loads(plan.text())
    saved["steps"][0]["title"] += "!"
    with pytest.raises(ValueError, match="id"):
        plan_from_json(saved)


@every
def test_nothing_in_a_plan_is_left_to_be_known_later(plan: Plan) -> None:
    for step in plan.steps:
        for command in (*step.checks, *step.do, *step.after, *step.undo):
            if isinstance(command, Run):
                assert all(word != "" or "rebase" in command.argv for word in command.argv), command.argv
            if isinstance(command, Capture):
                assert command.domid


@every
def test_what_is_destroyed_is_said(plan: Plan) -> None:
    if any(step.effect == "destroy" for step in plan.steps):
        assert plan.destroys


@pytest.mark.parametrize("name,declared,there", list(situations()), ids=[name for name, _, _ in situations()])
def test_the_same_input_gives_the_same_plan(name: str, declared: object, there: object) -> None:
    assert compile_plan("create", declared, there).text() == compile_plan("create", declared, there).text()  # type: ignore[arg-type]
