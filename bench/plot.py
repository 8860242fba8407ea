"""Bars on a logarithmic scale, as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

LEFT, WIDTH, BAR, GAP, TOP, LEAST = 210, 520, 14, 12, 58, 0.1  # pixels, and the seconds at which the scale begins
COLOURS = ("#8c8c8c", "#d08a2e", "#2b7a4b")


def plot(title: str, groups: Sequence[tuple[str, dict[str, float]]]) -> str:
    """Return the drawing. groups: a name, and what was measured by the name of each bar, in seconds."""
    return "\n".join(_lines(title, groups)) + "\n"


def _lines(title: str, groups: Sequence[tuple[str, dict[str, float]]]) -> Iterator[str]:
    names = list(groups[0][1])
    most = max(seconds for _, bars in groups for seconds in bars.values())
    decades = math.ceil(math.log10(most / LEAST))
    height = TOP + len(groups) * (len(names) * BAR + GAP) + 30

    def x(seconds: float) -> float:
        return LEFT + WIDTH * max(0.0, math.log10(seconds / LEAST)) / decades

    box = f"0 0 {LEFT + WIDTH + 80} {height}"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif">'
    yield f'<rect width="100%" height="100%" fill="white"/><text x="12" y="22" font-size="15">{escape(title)}</text>'
    for number, name in enumerate(names):
        at = LEFT + 130 * number
        yield f'<rect x="{at}" y="32" width="12" height="12" fill="{COLOURS[number]}"/>'
        yield f'<text x="{at + 17}" y="42" font-size="12">{escape(name)}</text>'
    for decade in range(decades + 1):
        seconds = LEAST * 10**decade
        where = f"{x(seconds):.0f}"
        yield f'<line x1="{where}" y1="{TOP - 6}" x2="{where}" y2="{height - 24}" stroke="#dddddd"/>'
        yield f'<text x="{where}" y="{height - 10}" font-size="11" text-anchor="middle">{seconds:g} s</text>'
    for row, (name, bars) in enumerate(groups):
        y = TOP + row * (len(names) * BAR + GAP)
        middle = y + len(names) * BAR / 2 + 4
        yield f'<text x="{LEFT - 10}" y="{middle:.0f}" font-size="12" text-anchor="end">{escape(name)}</text>'
        for number, seconds in enumerate(bars.values()):
            top, end = y + number * BAR, x(seconds)
            yield f'<rect x="{LEFT}" y="{top}" width="{end - LEFT:.1f}" height="{BAR - 2}" fill="{COLOURS[number]}"/>'
            yield f'<text x="{end + 4:.0f}" y="{top + 10}" font-size="10">{seconds:.2f} s</text>'
    yield "</svg>"
