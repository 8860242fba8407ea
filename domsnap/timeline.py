"""Where everything stands in the page's picture of a plan: its steps from left to right, its guests and disks below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

from domsnap.course import GuestState, Moment, course, guest_states
from domsnap.terminal import middle, safe
from domsnap.told import SYMBOLS, how_long, undo_end
from planner.plan import Plan

LEFT, EDGE, LANE, GUEST, TOP = 104, 24, 36, 58, 34
# The page's width, and how wide a step's column may be: the picture fits the page if it can.
_PAGE, _NARROW, _WIDE = 888, 26, 44


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time in which a guest runs, stands still or is off; `state` is that word, `text` what stands in it,
    `below` what stands under it."""

    x: int
    width: int
    state: GuestState
    text: str
    below: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A step in the lane of what it acts on."""

    x: int
    number: int
    symbol: str
    effect: str
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the picture: a guest with its bars, or what steps act on with their dots. `y` is its middle."""

    name: str
    short: str
    y: int
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """The picture; `below` is where the guests' lanes end, `phases` are (name, x, width), `commit` is where the last
    step that can be undone ends, 0 if there is none."""

    width: int
    height: int
    below: int
    lanes: tuple[Lane, ...]
    phases: tuple[tuple[str, int, int], ...]
    numbers: tuple[tuple[int, int], ...]
    commit: int


def timeline(plan: Plan) -> Timeline:
    """Lay the picture out; all numbers are in units of the SVG's view box."""
    moments = tuple(course(plan))
    column = min(max((_PAGE - LEFT - 2 * EDGE) // max(len(moments), 1), _NARROW), _WIDE)
    edges = [LEFT + EDGE + column * index for index in range(len(moments) + 1)]
    lanes = tuple(_lanes(plan, moments, edges))
    middles = [(start + end) // 2 for start, end in pairwise(edges)]
    return Timeline(
        width=edges[-1] + EDGE + 2,
        height=TOP + GUEST * len(plan.domains) + LANE * (len(lanes) - len(plan.domains)) + 44,
        below=TOP + GUEST * len(plan.domains) - 8,
        lanes=lanes,
        phases=tuple(_phases(moments, edges)),
        numbers=tuple((moment.step.number, x) for moment, x in zip(moments, middles, strict=True)),
        commit=next((edges[index] for index, each in enumerate(moments, 1) if each.step.number == undo_end(plan)), 0),
    )


def _short(name: str) -> str:
    return middle(safe(name), 12)


def _phases(moments: tuple[Moment, ...], edges: list[int]) -> Iterator[tuple[str, int, int]]:
    for phase, group in groupby(enumerate(moments), key=lambda each: each[1].step.phase):
        indexes = [index for index, _ in group]
        yield phase.capitalize(), edges[indexes[0]], edges[indexes[-1] + 1] - edges[indexes[0]]


def _lanes(plan: Plan, moments: tuple[Moment, ...], edges: list[int]) -> Iterator[Lane]:
    y = TOP
    for domain in plan.domains:
        yield Lane(domain.name, _short(domain.name), y + 18, bars=tuple(_bars(plan, domain.name, edges)))
        y += GUEST
    for subject in _subjects(plan, moments):
        dots = tuple(
            Dot(
                (edges[index] + edges[index + 1]) // 2,
                each.step.number,
                SYMBOLS[each.step.effect],
                each.step.effect,
                each.step.title,
            )
            for index, each in enumerate(moments)
            if subject in each.step.subject.split("+")
        )
        yield Lane(subject, _short(subject), y + LANE // 2, dots=dots)
        y += LANE


def _subjects(plan: Plan, moments: tuple[Moment, ...]) -> list[str]:
    """Return what the steps act on: the domain, its memory, its disks in their order, then the rest."""
    there = dict.fromkeys(subject for moment in moments for subject in moment.step.subject.split("+"))
    order = ["domain", "memory", *(row.vdev for row in plan.disks), *there]
    return [subject for subject in dict.fromkeys(order) if subject in there]


def _bars(plan: Plan, domain: str, edges: list[int]) -> Iterator[Bar]:
    """Yield a guest's bars, with a little before the first step and behind the last for how it is found and left."""
    states = list(guest_states(plan, domain))
    edges = [LEFT, *edges, edges[-1] + EDGE]
    for state, group in groupby(enumerate(states), key=lambda each: each[1]):
        indexes = [index for index, _ in group]
        start, end = edges[indexes[0]], edges[indexes[-1] + 1]
        long = how_long(plan, domain) if state == "still" else ""
        yield Bar(start, end - start, state, {"runs": "runs", "still": "stopped", "off": "off"}[state], long)
