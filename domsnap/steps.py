"""The preview's list of steps, grouped by phase, with the time in which the guest stands still drawn at its left."""

from __future__ import annotations

from collections.abc import Iterator

from domsnap.course import Moment, course
from domsnap.shown import shown
from domsnap.terminal import Ink, cells, safe, wrap
from domsnap.told import SYMBOLS, how_long, nearby, undo_words
from planner.operation import Effect
from planner.plan import PHASES, Phase, Plan, Step

_STYLES: dict[Effect, str] = {
    "check": "dim", "create": "green", "change": "yellow", "destroy": "red", "stop": "red", "go": "green",
}  # fmt: skip
_LEGEND = "+ create  ~ change  - destroy  ! guest stops  > guest runs  < check"


def step_list(plan: Plan, width: int, ink: Ink, *, verbose: bool) -> Iterator[str]:
    """Yield the steps as lines of at most `width` columns; commands, if `verbose`, as long as they are."""
    legend = f"    {_LEGEND}"
    yield ink("bold", "Steps") + (ink("dim", legend) if width >= 5 + len(legend) else "")
    steps = _Steps(plan, width, ink, verbose)
    for phase in PHASES:
        yield from steps.phase(phase)


class _Steps:
    def __init__(self, plan: Plan, width: int, ink: Ink, verbose: bool) -> None:
        self.plan, self.width, self.ink, self.verbose = plan, width, ink, verbose
        self.digits = len(str(len(plan.steps)))
        self.moments = tuple(course(plan))

    def phase(self, phase: Phase) -> Iterator[str]:
        """Yield one phase, with a bar at its left while the guest stands still."""
        moments = [moment for moment in self.moments if moment.step.phase == phase]
        if not moments:
            return
        first = moments[0]
        heading = self.ink("bold", phase.capitalize())
        opening = self._stops(first) if first.stops else ""
        fits = len(phase) + 2 + cells(opening) <= self.width
        if opening and fits:
            heading += ": " + self.ink("red", opening)
        elif (states := {state for each in moments for state in (each.before, each.after)}) in ({"runs"}, {"off"}):
            heading += f" (guest {states.pop()})"
        yield (self.ink("red", "|") + " " if first.before == "still" else "") + heading
        for moment in moments:
            if moment.stops and (moment is not first or not fits):
                yield from self._mark("red", f".-- {self._stops(moment)}")
            yield from self._step(moment)
            if moment.goes:
                yield from self._mark("green", f"'-- {self._goes(moment)}")

    def _mark(self, style: str, text: str) -> Iterator[str]:
        yield from (self.ink(style, line) for line in wrap(text, self.width))

    def _stops(self, moment: Moment) -> str:
        long = how_long(self.plan, moment.step.domain)
        return f"{self._guest(moment)} stops here{f' for {long}' if long else ''}"

    def _goes(self, moment: Moment) -> str:
        again = "starts" if moment.before == "off" else "runs again"
        past = ", as it was in the snapshot" if self.plan.verb == "revert" else ""
        return f"{self._guest(moment)} {again}{past}"

    def _guest(self, moment: Moment) -> str:
        return "guest" if len(self.plan.domains) == 1 else safe(moment.step.domain)

    def _step(self, moment: Moment) -> Iterator[str]:
        step, ink = moment.step, self.ink
        bar = ink("red", "|") if moment.stands else " "
        number = f"{step.number:>{self.digits}}"
        indent = 5 + self.digits
        said = self._said(step)
        lines = wrap(said, self.width - indent)
        style = _STYLES[step.effect]
        loud = style if step.effect in ("destroy", "stop", "go") else ""
        block = [f"{bar} {number} {ink(style, SYMBOLS[step.effect])} {ink(loud, lines[0])}"]
        block += [f"{bar}{' ' * (indent - 1)}{ink(loud, line)}" for line in lines[1:]]
        yield from self._beside(block, self._undo(step), f"{bar} ")
        if self.verbose:
            yield from self._commands(step, bar + " " * (indent - 1))

    def _said(self, step: Step) -> str:
        """Return the title; files in the folder of the step's disk go by their names, for the table shows the path."""
        path = next((row.path for row in self.plan.disks if (row.domain, row.vdev) == (step.domain, step.subject)), "")
        title = nearby(safe(step.title), safe(path))
        return title if len(self.plan.domains) == 1 else f"{safe(step.domain)}: {title}"

    def _undo(self, step: Step) -> tuple[str, ...]:
        """Return the undo of a step as it may be said, the longest first."""
        words = undo_words(self.plan, step)
        whole = f"undo: {', '.join(words)}"
        return (
            (whole, *(f"undo: {', '.join(words[:end])}, ..." for end in range(len(words) - 1, 0, -1))) if words else ()
        )

    def _beside(self, block: list[str], tails: tuple[str, ...], start: str) -> Iterator[str]:
        """Yield a block with the longest tail that fits to the right of its last line, else on a line of its own."""
        *above, last = block
        yield from above
        for tail in tails:
            gap = self.width - cells(last) - cells(tail)
            if gap >= 2:
                yield f"{last}{' ' * gap}{self.ink('dim', tail)}"
                return
        yield last
        for tail in tails:
            if cells(tail) <= self.width - 4:
                gap = self.width - cells(start) - cells(tail)
                yield f"{start}{' ' * gap}{self.ink('dim', tail)}"
                return

    def _commands(self, step: Step, start: str) -> Iterator[str]:
        if step.why:
            for line in wrap(f"why: {safe(step.why)}", self.width - cells(start)):
                yield start + self.ink("dim", line)
        for name in ("checks", "do", "after", "undo"):
            label = {"checks": "check"}.get(name, name)
            for command in getattr(step, name):
                yield f"{start}{self.ink('cyan', f'{label:<5}')} {shown(command)}"
