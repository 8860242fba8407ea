"""What every operation is: one thing done to a domain, its memory or a disk, its checks and its undo beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

from planner.commands import Command

Effect = Literal["check", "create", "change", "destroy", "stop", "go"]


class Operation(ABC):
    """One operation; subclasses are frozen dataclasses. Nothing here touches a host: the methods yield commands.

    effect: what the preview's symbol says - `check` changes nothing, `create` makes something new, `change` alters what
    is there, `destroy` removes data, `stop` stops the guest, `go` lets it run.
    """

    __slots__ = ()
    effect: ClassVar[Effect] = "create"

    @abstractmethod
    def title(self) -> str:
        """Say what is done, as an administrator would: an imperative, without a full stop."""

    def why(self) -> str:
        """Say why it is done, or why by this tool; "" where the title says it all."""
        return ""

    def subject(self) -> str:
        """Name what it acts on: a vdev, `memory`, `domain` or `record`."""
        return "domain"

    def checks(self) -> Iterator[Command]:
        """Yield commands that change nothing and fail unless `do` may go ahead."""
        yield from ()

    @abstractmethod
    def do(self) -> Iterator[Command]:
        """Yield the commands that do it."""

    def after(self) -> Iterator[Command]:
        """Yield commands that change nothing and fail unless it was done; needed where an exit status lies."""
        yield from ()

    def undo(self) -> Iterator[Command]:
        """Yield commands that bring back what was; they work too when `do` failed or was cut off half-way."""
        yield from ()
