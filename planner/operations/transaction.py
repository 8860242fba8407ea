"""The one QMP transaction of a domain, and its rehearsal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.commands import Command, Qmp, literal
from planner.operation import Operation


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a transaction on the disk `vdev`: `node` must be the root of a device; `undo` brings back what was.

    rehearsed: the action may be rehearsed with an `abort` behind it; an internal snapshot would really be made.
    """

    vdev: str
    title: str
    type: str
    data: Mapping[str, Any]
    node: str
    undo: tuple[Command, ...]
    rehearsed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "data": dict(self.data)}


@dataclass(frozen=True, slots=True)
class Rehearse(Operation):
    """Run the overlay part of the transaction with an `abort` at its end: QEMU tries all of it and takes it back."""

    effect = "check"
    monitor: str
    actions: tuple[Action, ...]

    def title(self) -> str:
        return f"rehearse the disk transaction ({', '.join(action.vdev for action in self.actions)})"

    def why(self) -> str:
        return "QEMU tries every action and takes it back, so the real one cannot be refused"

    def subject(self) -> str:
        return "storage"

    def do(self) -> Iterator[Command]:
        actions = [*(action.to_json() for action in self.actions), {"type": "abort", "data": {}}]
        # Seen on QEMU 7.2: the answer is this error, and every disk is on its old node again.
        yield Qmp(self.monitor, "transaction", {"actions": actions}, error="Transaction aborted using Abort action")


@dataclass(frozen=True, slots=True)
class Transaction(Operation):
    """Snapshot every disk that QEMU serves in one transaction: all of them or none (QEMU's qapi/transaction.json)."""

    monitor: str
    actions: tuple[Action, ...]

    def title(self) -> str:
        return "; ".join(action.title for action in self.actions)

    def why(self) -> str:
        return "one QMP transaction: all of these disks at one instant, or none of them"

    def subject(self) -> str:
        return "+".join(action.vdev for action in self.actions)

    def checks(self) -> Iterator[Command]:
        for action in self.actions:
            yield Qmp(self.monitor, "query-block", prints=literal(f'"node-name":"{action.node}"'))

    def do(self) -> Iterator[Command]:
        yield Qmp(self.monitor, "transaction", {"actions": [action.to_json() for action in self.actions]})

    def undo(self) -> Iterator[Command]:
        for action in reversed(self.actions):
            yield from action.undo
