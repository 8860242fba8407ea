"""Carries a plan out: checks, arm, do, look; and when something fails, undo, the guest first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from executor import by_hand, migrate
from executor.companion import Failed
from executor.journal import Journal, Past, started
from executor.live import Live
from executor.monitors import nobody_listens
from executor.perform import AfterEnd, Performer
from executor.programs import Watch
from executor.signals import Signals
from planner.commands import Command, Compact, Release
from planner.plan import Plan, Step, introduced, monitors, no_return, rollback

Kind = Literal["step", "progress", "undo", "trouble", "end", "hand"]
Tell = Callable[[Kind, str], None]


class Stopped(Exception):
    """A signal has come; the text is empty."""


class Stale(Failed):
    """The domain is not the one that was planned for."""


@dataclass(slots=True)
class _Noted(Watch):
    """Notes the programs of a run in its journal, and tells how far the memory is written, and how long the guest has
    been standing still."""

    run: Run
    began: float = 0
    said: bool = False

    def begun(self, pid: int) -> None:
        self.began = time.monotonic()
        with suppress(OSError):  # the program runs already: the next note says that the journal cannot grow
            self.run.journal.note("child", sync=False, pid=pid, started=started(pid))

    def tick(self, argv: tuple[str, ...]) -> None:
        if argv[:2] != ("xl", "save"):
            return
        whole = self.run.plan.domains[0].memory
        with suppress(OSError):
            done, spent = os.stat(argv[-1]).st_size, time.monotonic() - self.began
            rate = done / spent
            left = f", {max(0, whole - done) / rate:.0f} s left" if rate else ""
            text = f"memory: {done // 2**20} of {whole // 2**20} MiB, {rate / 2**20:.0f} MiB/s{left}"
            self.run.tell("progress", f"{text}; the guest has been standing still for {spent:.0f} s")

    def told(self, text: str, *, passing: bool = False) -> None:
        self.run.tell("progress" if passing else "step", text)

    def captured(self, word: str, numbers: list[float]) -> None:
        if word in ("xl", "ready"):
            pid = int(numbers[0])
            with suppress(OSError):
                self.run.journal.note("captured", sync=False, pid=pid, started=started(pid))
            return
        if word == "end":
            # It has stood still for some time: its last pages and its devices have come since. Nothing says how long.
            self.run.stopped = time.monotonic()
        text = migrate.shown(word, numbers, self.run.plan.domains[0].memory)
        self.run.tell("step" if word == "end" else "progress", text)


@dataclass(slots=True)
class Run:
    """One run of a plan; `tell` is told each thing worth saying, as a kind and a text.

    ended: the domain has, or the machine, since the plan was cut off, and it has not been started again.
    stopped, let_go: when the guest was, by time.monotonic(); 0 if it was not. The second of a live capture alone.
    """

    plan: Plan
    journal: Journal
    signals: Signals
    tell: Tell
    armed: list[int] = field(default_factory=list)
    committed: bool = False
    step: int = 0
    stopped: float = 0
    let_go: float = 0
    heedless: bool = False
    ended: bool = False
    performer: Performer = field(init=False)

    def __post_init__(self) -> None:
        kind = AfterEnd if self.ended else Performer
        watch = _Noted(self)
        self.performer = kind(self.signals, Live(self.plan.domains[0].uuid, watch), watch)

    def go(self) -> int:
        """Carry the plan out and return the exit status: 0, 1 a check failed, 3 stale, 5 undone, 6 attention needed,
        128+n ended by signal n and undone."""
        return self._end(lambda: self._steps(self.plan.steps))

    def finish(self, past: Past, after: int = 0) -> int:
        """Do what is left, `after` a step, of a plan cut off after its commit; return the exit status, 0 or 6."""
        self.armed, self.committed, self.performer.live.left = past.armed, True, past.captured
        left = [step for step in past.left if step.number > after]
        return self._end(lambda: self._steps(left, past.commands))

    def take_back(self, past: Past) -> int:
        """Undo a plan that was cut off before its commit; return the exit status, 5 or 6."""
        self.armed = [number for number in past.armed if number not in past.undone]
        self.performer.live.left = past.captured
        self.signals.held = self.heedless = True
        return self._end(lambda: 5 if self.undo() else 6)

    def _end(self, act: Callable[[], int]) -> int:
        try:
            status = act()
        finally:
            self.performer.close()
        self.heedless = True
        self.note("end", status=status)
        return status

    def _steps(self, steps: Iterable[Step], did: Mapping[int, int] | None = None) -> int:
        try:
            for step in steps:
                self._one(step, (did or {}).get(step.number, 0), again=did is not None)
        except Stopped:
            return self._fail(128 + self.signals.came)
        except Failed as error:
            self.tell("trouble", str(error))
            if self.signals.pending:
                return self._fail(128 + self.signals.came)
            return self._fail(5 if self.armed else 3 if isinstance(error, Stale) else 1)
        return 0

    def _one(self, step: Step, did: int = 0, *, again: bool = False) -> None:
        """Carry a step out, but for its first `did` commands; `again`: the next one may have been done, or begun."""
        self.step = step.number
        self.tell("step", f"[{step.number}/{len(self.plan.steps)}] {step.title}")
        for command in () if again else step.checks:
            try:
                self._do(command)
            except Failed as error:
                raise Stale(str(error)) if step.effect == "check" and step.subject == "domain" else error from None
        if step.effect == "stop":
            self.stopped = time.monotonic()
        if step.effect != "check":
            self.armed.append(step.number)
            self.note("arm", step=step.number)
        for count, command in enumerate(step.do, 1):
            if count <= did:
                continue
            self._do(command, again=again)
            self.note("did", step=step.number, command=count)
        for command in step.after:
            self._do(command)
        self._done(step)
        self.note("done", step=step.number)
        if step.number == introduced(self.plan):
            # Negotiated with now, once it is sure which domain this is: nothing of that is left to the freeze.
            self.performer.monitors.connect(monitors(self.plan))

    def _done(self, step: Step) -> None:
        thaw = max((each.number for each in self.plan.steps if each.phase == "thaw"), default=0)
        if step.commit:
            # From here on all is to be finished, and the guest let go first: with or without a journal.
            self.committed = self.heedless = True
            self.signals.held = step.number < thaw  # no signal may come between this and the guest
        if step.number == thaw:
            self.signals.held = False
            if self.stopped:
                least = "at least " if self.let_go else ""
                spent = (self.let_go or time.monotonic()) - self.stopped
                self.tell("end", f"the guest runs; it stood still for {least}{spent:.2f} s")

    def _do(self, command: Command, *, again: bool = False) -> None:
        """Do a command, or what may be left of it. A signal ends what is not needed, not the plan."""
        needed = not isinstance(command, Compact)
        if needed:
            self._look_up()
        if isinstance(command, Release):
            # Where xl has another step to go before the guest goes on; that it has ended, when it runs, is seen later.
            self.let_go = time.monotonic()
        (self.performer.do_again if again else self.performer.do)(command)
        if needed and not again:
            self._look_up()

    def note(self, event: str, *, sync: bool = True, **said: Any) -> None:
        """Note something in the journal. Raises Failed if that is impossible; an undo, or what follows the commit,
        goes on without."""
        try:
            self.journal.note(event, sync=sync, **said)
        except OSError as error:
            if not self.heedless:
                raise Failed(f"{self.journal.path}: {error.strerror}") from None

    def _look_up(self) -> None:
        if self.signals.pending:
            raise Stopped

    def _fail(self, status: int) -> int:
        """Say what failed, undo what can be undone, and return the exit status."""
        came = self.signals.pending
        self.signals.held = self.heedless = True  # nothing stops an undo
        what = (
            f"interrupted by signal {came} during" if came else f"failed in step {self.step} of {len(self.plan.steps)}"
        )
        self.tell("end", f"{what}: {self.plan.steps[self.step - 1].title}")
        self.note("failed", step=self.step, signal=came)
        if self.committed:
            return self._rest()
        if not self.armed:
            stale = "; the domain is not the one that was planned for: plan again" if status == 3 else ""
            self.tell("end", f"nothing was changed{stale}")
            return status
        return status if self.undo() else 6

    def undo(self) -> bool:
        """Undo the armed steps, the guest first; return whether all is as it was. What is not is said."""
        bad: set[int] = set()
        undoable = {step.number for step in self.plan.steps if step.undo}
        for step in rollback(self.plan.steps):
            if step.number not in self.armed:
                continue
            if needed := sorted(set(step.undo_needs) & bad & undoable):
                self.tell("undo", f"step {step.number} is left as it is: it needs the undo of step {needed[0]}")
                bad.add(step.number)
                continue
            self.tell("undo", f"undoing step {step.number}")
            try:
                for command in step.undo:
                    self.performer.do(command)
            except Failed as error:
                self.tell("trouble", str(error))
                bad.add(step.number)
            else:
                self.note("undone", step=step.number)
        return self._undone(bad)

    def _undone(self, bad: set[int]) -> bool:
        final = [step.number for step in self.plan.steps if step.number in self.armed and no_return(step, self.plan)]
        if not bad and not final:
            self._without_qemu()
            self.tell("end", "everything was undone")
            return True
        if final:
            said = ", ".join(map(str, final))
            self.tell(
                "end", f"what could be undone is undone; steps {said} cannot be: look at the domain and plan again"
            )
        if bad:
            self.tell(
                "end", "not everything could be undone; finish by hand, each line when the one before has worked:"
            )
            for step in rollback(self.plan.steps):
                if step.number in bad:
                    self._by_hand(step.undo)
            self._or("abort", "undoes the rest")
        return False

    def _rest(self) -> int:
        self.tell(
            "end",
            "nothing is undone any more; plan again, or finish by hand, each line when the one before has worked:",
        )
        for step in self.plan.steps:
            if step.number >= max(self.step, self.plan.commit + 1):
                self._by_hand(step.do)
        self._or("resume", "does the rest")
        return 6

    def _by_hand(self, commands: tuple[Command, ...]) -> None:
        for line in by_hand.lines(commands):
            image = line.removeprefix(by_hand.WHOLE)
            self.tell("hand", line if image == line else f"#{image} must be whole: `domsnap resume` looks")

    def _or(self, verb: str, does: str) -> None:
        self._without_qemu()
        name = by_hand.one_line(self.plan.domains[0].name)
        self.tell("end", f"or mend what is wrong: `domsnap {verb} {name}` then {does}")

    def _without_qemu(self) -> None:
        """Say so if the domain has lost its QEMU. By its number: one that was started anew has another, and is well."""
        paths = monitors(self.plan)
        if paths and not self.ended and nobody_listens(paths):
            domain = self.plan.domains[0]
            self.tell(
                "end",
                f"the QEMU of {by_hand.one_line(domain.name)} has ended, and no disk of the domain works without;"
                " end it, if it is there yet:",
            )
            self.tell("hand", f"xl destroy -- {domain.domid}")
