"""A plan as text for a terminal: one screen that says what will happen, when the guest stops and what is lost."""

from __future__ import annotations

from collections.abc import Iterator

from domsnap.course import course
from domsnap.steps import step_list
from domsnap.table import disk_table
from domsnap.terminal import Ink, safe, wrap
from domsnap.told import how_long, pause, place, source_file, tally, title, undone
from domsnap.units import size
from planner.plan import Plan, Subject

_NARROWEST = 40


def preview(plan: Plan, *, verbose: bool = False, color: bool = False, width: int = 80, apply: str = "") -> str:
    """Return the plan as text of at most `width` columns (40 at least), with a last newline.

    verbose: with the reason and the exact commands of every step; these are never broken, whatever the width.
    apply: the command that runs this plan, as the door knows it, for the last line.
    """
    view = _View(plan, max(width, _NARROWEST), Ink(color), verbose, apply)
    return "\n".join(line.rstrip() for line in view.lines()) + "\n"


class _View:
    def __init__(self, plan: Plan, width: int, ink: Ink, verbose: bool, apply: str) -> None:
        self.plan, self.width, self.ink, self.verbose, self.apply = plan, width, ink, verbose, apply

    def lines(self) -> Iterator[str]:
        plan = self.plan
        yield from self._header()
        if not plan.steps:
            yield ""
            yield from self._text(f"Nothing to do: {plan.note}." if plan.note else "Nothing to do.", style="bold")
            return
        if plan.disks:
            yield ""
            yield from disk_table(plan, self.width, self.ink)
        yield ""
        yield from step_list(plan, self.width, self.ink, verbose=self.verbose)
        yield ""
        yield from self._costs()
        yield from self._warnings()
        yield from self._destroys()
        yield from self._summary()

    def _header(self) -> Iterator[str]:
        plan = self.plan
        yield from self._text(f"Plan {plan.id[:8]}: {title(plan)}", style="bold")
        if plan.offline:
            said = "OFFLINE: no host was observed. All of this rests on what the spec says of host, disks and domain."
            yield from self._text(said, style="red", indent=2)
        for domain in plan.domains:
            yield from self._fact("domain", self._domain(domain))
        where = ":".join(part for part in (source_file(plan), _line(plan)) if part)
        if where or plan.description:
            said = f'"{plan.description}"' if plan.description else ""
            yield from self._fact("spec", " ".join(part for part in (where, said) if part))
        if plan.note and plan.steps:
            yield from self._fact("note", plan.note)

    def _domain(self, domain: Subject) -> str:
        disks = sum(row.domain == domain.name for row in self.plan.disks)
        state = f"{domain.state} as domain {domain.domid}" if domain.domid is not None else domain.state
        host = f" on {self.plan.host}" if self.plan.host else ""
        counted = f", {disks} disk{'' if disks == 1 else 's'}" if disks else ""
        return f"{domain.name}: {state}{host}, {domain.type.upper()}, {size(domain.memory)} of memory{counted}"

    def _costs(self) -> Iterator[str]:
        plan = self.plan
        if plan.stops:
            rests = "; ".join(dict.fromkeys(stop.basis for stop in plan.stops if stop.basis))
            label = "stop" if any(moment.stops for moment in course(plan)) else "start"
            yield from self._fact(label, f"{how_long(plan)}{f': {rests}' if rests else ''}")
        for index, row in enumerate(plan.space):
            free = f"{size(row.free)} free" if row.free >= 0 else "free space not known"
            said = f"{size(row.needs)} {place(row)} ({free}): {row.what}"
            yield from self._fact("" if index else "space", said)
        yield from self._fact("undo", undone(plan))
        if plan.untested:
            said = f"{', '.join(plan.untested)}: never run on a real host; refused by apply without --untested"
            yield from self._fact("UNTESTED", said, style="red")

    def _warnings(self) -> Iterator[str]:
        if self.plan.warnings:
            yield ""
            yield self.ink("yellow", "Warnings")
        for notice in self.plan.warnings:
            where = f"{notice.position}: " if notice.position else ""
            yield from self._item(self.ink("yellow", "!"), f"{where}{notice.text}")

    def _destroys(self) -> Iterator[str]:
        yield ""
        if not self.plan.destroys:
            yield "Destroys nothing."
            return
        yield self.ink("red", "DESTROYS")
        for each in self.plan.destroys:
            yield from self._item(self.ink("red", "-"), each, style="red")

    def _summary(self) -> Iterator[str]:
        counts = ", ".join(f"{count} to {what}" for what, count in tally(self.plan).items())
        yield from self._text(f"Plan: {counts}; {pause(self.plan)}.", style="bold")
        if self.apply:
            yield f"apply: {safe(self.apply)}"

    def _text(self, text: str, style: str = "", indent: int = 0) -> Iterator[str]:
        for line in wrap(safe(text), self.width - indent):
            yield " " * indent + self.ink(style, line)

    def _fact(self, label: str, text: str, style: str = "") -> Iterator[str]:
        first, *rest = wrap(safe(text), self.width - 11)
        yield f"  {self.ink(style or 'dim', f'{label:<8}')} {first}"
        yield from (" " * 11 + line for line in rest)

    def _item(self, symbol: str, text: str, style: str = "") -> Iterator[str]:
        first, *rest = wrap(safe(text), self.width - 4)
        yield f"  {symbol} {self.ink(style, first)}"
        yield from ("    " + self.ink(style, line) for line in rest)


def _line(plan: Plan) -> str:
    return plan.source.rsplit(":", 2)[1] if plan.source.count(":") >= 2 else ""
