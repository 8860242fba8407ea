"""Bytes and durations as people read them: one function for each."""

from __future__ import annotations

_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: int) -> str:
    """Return `count` bytes in the largest binary unit that leaves a number of at least 1: "4 GiB", "1.5 GiB", "0 B"."""
    if count < 1024:
        return f"{count} B"
    number, unit = count / 1024, 0
    while round(number) >= 1024 and unit < len(_BINARY) - 1:
        number, unit = number / 1024, unit + 1
    return f"{_short(number)} {_BINARY[unit]}"


def duration(low: int, high: int) -> str:
    """Return a guess from `low` to `high` milliseconds: "50 to 400 ms", "0.1 to 1.1 s", "1 min 40 s to 12 min"."""
    first = f"{_short(low / 1000)} s" if 100 <= low < 1000 <= high else _time(low)
    last = _time(high)
    if first == last:
        return last
    number, _, unit = first.partition(" ")
    same = unit == last.partition(" ")[2] and unit.isalpha()
    return f"{number if same else first} to {last}"


def _time(milliseconds: int) -> str:
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 99.5:
        return f"{_short(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _short(number: float) -> str:
    """Return a number with two digits that matter, and no ".0"."""
    return f"{number:.1f}".removesuffix(".0") if number < 9.95 else f"{number:.0f}"
