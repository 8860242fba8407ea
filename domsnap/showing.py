"""Puts plans on standard output in the form that was asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from domsnap.door import colors, emit, emit_text
from schema.diagnostic import Diagnostic, Refused

if TYPE_CHECKING:
    from domsnap.options import Format
    from planner.plan import Plan


def only_one(made: list[Plan], what: str) -> None:
    """Raise Refused unless there is one plan, for `what` holds no more."""
    if len(made) != 1:
        names = ", ".join(f"{domain.name}/{each.snapshot}" for each in made for domain in each.domains)
        detail = f"{what} holds one plan; the file has {names}"
        raise Refused([Diagnostic("one snapshot at a time", detail, "choose with --document")])


def show(made: list[Plan], form: Format, *, verbose: bool) -> None:
    """Print the plans, all of them as text or JSON, else the only one. Raises Ended where standard output fails."""
    match form:
        case "json":
            emit("".join(each.text() for each in made).encode())
        case "mermaid":
            from domsnap.mermaid import mermaid

            emit(mermaid(made[0]).encode())
        case "html":
            from domsnap.page import page

            emit(page(made[0]).encode())
        case "text":
            from domsnap.preview import preview

            width = _width()
            color = colors(sys.stdout)
            emit_text("\n".join(preview(each, verbose=verbose, color=color, width=width) for each in made))


def _width() -> int:
    """Return the columns of the terminal, within reason; 80 where there is none: files are the same everywhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return 80
    import shutil

    return max(60, min(shutil.get_terminal_size().columns, 120))
