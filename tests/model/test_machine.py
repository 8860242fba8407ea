"""One domain's life at random: snapshots taken, reverted to and deleted in any order, amid people and faults.

After each event, the guest's images are those that its configuration names, each snapshot holds what it held when it
was taken, and nothing lies about that belongs to no one. A step that fails before the commit changes nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from planner.plan import Plan, Verb
from schema.diagnostic import Refused
from tests.model.host import Host
from tests.model.observer import observe
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
    run_with_fault,
    take,
)

KINDS = sorted(METHODS)


class Life(RuleBasedStateMachine):
    names = Bundle("names")
    host: Host
    snapshots: dict[str, Taken]

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.made = 0

    @initialize(
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4).filter(lambda k: "qcow2" in k or len(k) > 1)
    )
    def begin(self, kinds: list[str]) -> None:
        self.host = Host({f"xvd{'abcd'[at]}": kind for at, kind in enumerate(kinds)})
        self.snapshots = {}
        self.guest_writes()

    # --- people

    @rule()
    def guest_writes(self) -> None:
        if self.host.domid is not None:
            self.written += 1
            self.host.write(self.written)

    @rule()
    def guest_starts_anew(self) -> None:
        """Off, and on again: what a reboot does to the images, too."""
        before = {vdev: self.host.seen(vdev) for vdev in self.host.kinds}
        if self.host.domid is not None:
            self.host.stop()
        self.host.start(0)
        assert {vdev: self.host.seen(vdev) for vdev in self.host.kinds} == before

    @precondition(lambda self: self.host.domid is not None)
    @rule()
    def guest_powers_off(self) -> None:
        self.host.stop()

    # --- the three verbs

    def methods(self, data: st.DataObject) -> dict[str, Any]:
        return {vdev: data.draw(st.sampled_from(METHODS[kind])) for vdev, kind in self.host.kinds.items()}

    @precondition(lambda self: self.host.domid is not None and len(self.snapshots) < 6)
    @rule(target=names, data=st.data())
    def create(self, data: st.DataObject) -> str:
        self.made += 1
        name = f"s{self.made}"
        self.snapshots[name] = take(self.host, name, self.methods(data))
        return name

    @rule(name=names, keep=st.booleans())
    def revert(self, name: str, keep: bool) -> None:
        if name not in self.snapshots or (plan := self.plan("revert", name, discard_current=not keep)) is None:
            return
        now, before = present(self.host), {record.snapshot for record in observe(self.host).records}
        run(self.host, plan)
        new = {record.snapshot for record in observe(self.host).records} - before
        assert len(new) == int(keep)
        self.snapshots |= dict.fromkeys(new, now)
        taken = self.snapshots[name]
        assert (self.host.domid is None) == (taken.ram is None)
        assert self.host.ram == (taken.ram or 0)
        assert {vdev: self.host.seen(vdev) for vdev in self.host.kinds} == taken.disks

    @rule(name=consumes(names))
    def delete(self, name: str) -> None:
        self.delete_one(name)

    def delete_one(self, name: str) -> bool:
        plan = self.plan("delete", name) if name in self.snapshots else None
        if plan is None:
            return False
        now = present(self.host)
        run(self.host, plan)
        assert present(self.host) == now
        del self.snapshots[name]
        return True

    def plan(self, verb: Verb, name: str, **how: bool) -> Plan | None:
        try:
            return plan_on(self.host, verb, declared(name), **how)
        except Refused:
            return None

    # --- faults

    @precondition(lambda self: self.host.domid is not None)
    @rule(data=st.data())
    def create_fails(self, data: st.DataObject) -> None:
        self.fail(data, plan_on(self.host, "create", declared("broken", self.methods(data))))

    @rule(name=names, keep=st.booleans(), data=st.data())
    def revert_fails(self, name: str, keep: bool, data: st.DataObject) -> None:
        if name in self.snapshots and (plan := self.plan("revert", name, discard_current=not keep)):
            self.fail(data, plan)

    @rule(name=names, data=st.data())
    def delete_fails(self, name: str, data: st.DataObject) -> None:
        if name in self.snapshots and (plan := self.plan("delete", name)):
            self.fail(data, plan)

    def fail(self, data: st.DataObject, plan: Plan) -> None:
        steps = [
            step
            for step in plan.steps
            if step.number <= plan.commit and step.do and (step.undo or step.effect == "check")
        ]
        if not steps:
            return
        step = data.draw(st.sampled_from(steps))
        index = data.draw(st.integers(0, len(step.do) - 1))
        acted = data.draw(st.booleans()) and not (step.commit and index == len(step.do) - 1)
        now = present(self.host)
        bad = run_with_fault(self.host, plan, step.number, index, acted=acted)
        assert not bad
        # A present that was given up on purpose has no memory to go on from, and perhaps some disks that are gone: the
        # domain stays off.
        frozen = [each for each in plan.steps if each.phase == "freeze" and each.number < step.number]
        given_up = {each.subject for each in frozen if each.effect != "check" and not each.undo}
        if given_up:
            assert self.host.domid is None
            now.ram = None
            now.disks |= {vdev: self.host.seen(vdev) for vdev in given_up & now.disks.keys()}
        assert present(self.host) == now

    # --- what always holds

    @invariant()
    def everything_is_as_it_was(self) -> None:
        if hasattr(self, "host"):
            hold_guest(self.host)
            hold_snapshots(self.host, self.snapshots)
            hold_no_leftovers(self.host)

    def teardown(self) -> None:
        """Each snapshot must come back; and then all can go, in some order, without a trace."""
        for name, taken in self.snapshots.items():
            other = self.host.copy()
            run(other, plan_on(other, "revert", declared(name)))
            assert {vdev: other.seen(vdev) for vdev in other.kinds} == taken.disks
            assert other.ram == (taken.ram or 0)
            hold_guest(other)
        while getattr(self, "snapshots", None):
            assert sum(map(self.delete_one, list(self.snapshots))), "nothing of what is left can be deleted"
            self.everything_is_as_it_was()


QUICK = settings(
    max_examples=400, stateful_step_count=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def test_a_short_life(request: pytest.FixtureRequest) -> None:
    run_life(QUICK)


@pytest.mark.slow
def test_longer_lives() -> None:
    run_life(settings(QUICK, max_examples=1500, stateful_step_count=60))


@pytest.mark.slow
@pytest.mark.long
def test_long_lives_that_nobody_has_lived_before() -> None:
    run_life(settings(QUICK, max_examples=6000, stateful_step_count=60, derandomize=False))


def run_life(how: settings) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Life, settings=how)
