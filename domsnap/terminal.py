"""How text meets a terminal: what may be printed, how wide it is, where it is broken, and its colours."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STYLES = {"bold": "1", "dim": "2", "red": "1;31", "green": "32", "yellow": "33", "cyan": "36"}


def safe(text: str) -> str:
    r"""Return `text` with everything that does not simply show - control characters, escape sequences, line breaks,
    marks that turn the direction of writing - spelt out as `\x1b`: names and paths come from hosts."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def cells(text: str) -> int:
    """Return how many columns `text` takes on a terminal; colours take none, wide characters two."""
    text = _COLOUR.sub("", text)
    if text.isascii():
        return len(text)
    return sum(_cell(each) for each in text)


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(text: str, width: int) -> list[str]:
    """Return `text` as lines of at most `width` columns, broken at spaces; a word that is too long for any line is
    broken after a slash if it has one."""
    lines = [""]
    for word in text.split(" "):
        glue = " " if lines[-1] else ""
        if cells(lines[-1]) + len(glue) + cells(word) <= width:
            lines[-1] += glue + word
            continue
        if cells(word) <= width:
            lines.append(word)
            continue
        room = width - cells(lines[-1]) - len(glue)
        if lines[-1] and "/" in (head := _head(word, room)):  # a long path may begin where there is room
            cut = head.rindex("/") + 1
            lines[-1] += glue + word[:cut]
            word = word[cut:]
        while cells(word) > width:
            head = _head(word, width)
            cut = head.rfind("/") + 1 or len(head)
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    return [line for line in lines if line] or [""]


def _head(text: str, width: int) -> str:
    """Return as much of the beginning of `text` as fits, but one character at least."""
    end = 0
    while end < len(text) and cells(text[: end + 1]) <= width:
        end += 1
    return text[: max(end, 1)]


def middle(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, its middle left out: the end of a path says most."""
    if cells(text) <= width:
        return text
    if width < 8:
        return _head(text, width)
    head = (width - 3) // 3
    return f"{_head(text, head)}...{_head(text[::-1], width - 3 - head)[::-1]}"


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours, or none: nothing is said by colour alone."""

    on: bool

    def __call__(self, style: str, text: str) -> str:
        """Return `text` in a style: bold, dim, red, green, yellow or cyan; "" leaves it as it is."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.on and style and text else text
