"""What a message about a document is made of; it is rendered once, at the door."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text; `line` and `column` count from 1, `column` in characters; 0 where only the file is known."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing to say about a document.

    The summary holds no user data, so that people learn to recognise it; the detail does; the hint says what to do.
    `path` is where in the document (`disks.xvda.format`), `text` the source line that the position points into.
    """

    summary: str
    detail: str = ""
    hint: str = ""
    position: Position | None = None
    path: str = ""
    text: str = ""
    severity: str = "error"

    def to_json(self) -> dict[str, Any]:
        """Return the documented shape; file, line and column are null when they are not known."""
        where = self.position
        return {
            "file": where.file if where else None,
            "line": where.line or None if where else None,
            "column": where.column or None if where else None,
            "path": self.path,
            "severity": self.severity,
            "summary": self.summary,
            "detail": self.detail,
            "hint": self.hint,
        }


def shown(value: Any) -> str:
    """Return a value for a message: quoted, cut at 60 characters, without control characters."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return cut(repr(str(value)) if isinstance(value, str) else str(value))


def cut(text: str) -> str:
    """Return at most 60 characters of a text."""
    return text if len(text) <= 60 else f"{text[:57]}..."


class Refused(Exception):
    """A document or a request cannot be carried out; `diagnostics` says why, all of it at once."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(f"{d.summary}: {d.detail}" if d.detail else d.summary for d in self.diagnostics))
