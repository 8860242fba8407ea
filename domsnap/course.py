"""What the guests do while a plan runs: who runs, who stands still and who is off, at every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from planner.plan import Plan, Step, Subject

GuestState = Literal["runs", "still", "off"]


@dataclass(frozen=True, slots=True)
class Moment:
    """A step, and what the guest of its domain does when it begins and when it is done."""

    step: Step
    before: GuestState
    after: GuestState

    @property
    def stands(self) -> bool:
        """Whether the guest stands still during the step, or from within it on, or until within it."""
        return "still" in (self.before, self.after)

    @property
    def stops(self) -> bool:
        return self.step.effect == "stop" and self.before == "runs"

    @property
    def goes(self) -> bool:
        return self.step.effect == "go" and self.before != "runs"


def course(plan: Plan) -> Iterator[Moment]:
    """Yield every step with what its guest does, in order."""
    states = {domain.name: _found(domain) for domain in plan.domains}
    for step in plan.steps:
        before = states.get(step.domain, "off")
        after = states[step.domain] = _left(step, before)
        yield Moment(step, before, after)


def guest_states(plan: Plan, domain: str) -> Iterator[GuestState]:
    """Yield what the guest of a domain does before all, during each step (of whichever domain), and after all."""
    state = next(_found(each) for each in plan.domains if each.name == domain)
    yield state
    for moment in course(plan):
        if moment.step.domain == domain:
            yield "still" if moment.stands else moment.before
            state = moment.after
        else:
            yield state
    yield state


def _found(domain: Subject) -> GuestState:
    return "runs" if domain.state == "running" else "off" if domain.state == "off" else "still"


def _left(step: Step, before: GuestState) -> GuestState:
    return "still" if step.effect == "stop" else "runs" if step.effect == "go" else before


def running(plan: Plan) -> list[str]:
    """Return the domains whose guest runs when all is done."""
    last = {domain.name: domain.state == "running" for domain in plan.domains}
    last |= {moment.step.domain: moment.after == "runs" for moment in course(plan)}
    return [name for name, runs in last.items() if runs]
