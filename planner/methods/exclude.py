"""The method `exclude`: a disk that the snapshot leaves alone, with the reason why."""

from __future__ import annotations

from planner.facts import Held, Record
from planner.methods.method import Method, Target


class Exclude(Method):
    name = "exclude"

    def why(self, target: Target) -> str:
        return f"left alone: {target.reason}"

    def create(self, target: Target) -> Held:
        return target.hold(self.name, "", reason=target.reason)

    def revert(self, target: Target, held: Held, present: str, keep: bool) -> Held | None:
        target.warn(
            f"excluded ({held.reason}): it is not rolled back, and what the guest had swapped out to it is lost"
        )
        return target.hold(self.name, "", reason=held.reason) if keep else None

    def delete(self, target: Target, held: Held, record: Record) -> None:
        return
