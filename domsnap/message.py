"""The one renderer of a diagnostic: where, what, the line with a caret, and what to do."""

from __future__ import annotations

import re

from domsnap.terminal import cells, middle, safe
from schema.diagnostic import Diagnostic

_WINDOW = 100  # characters of a source line that are shown around the caret
_PATH = 160  # columns of a path; a key can be as long as a file
_TOKEN = re.compile(r"'[^']*'?|\"[^\"]*\"?|[^\s,\]}#:]+:?")


def message(diagnostic: Diagnostic, *, color: bool = False) -> str:
    """Return a diagnostic as lines for people, with a last newline; nothing in it can move a terminal's cursor."""
    where = f"{diagnostic.position}: " if diagnostic.position else ""
    bold, red, plain = ("\x1b[1m", "\x1b[31m", "\x1b[0m") if color else ("", "", "")
    lines = [f"{bold}{safe(where)}{red}{safe(diagnostic.summary)}{plain}"]
    said = ": ".join(part for part in (middle(diagnostic.path, _PATH), diagnostic.detail) if part)
    if said:
        lines.append(f"  {safe(said)}")
    lines += _source(diagnostic, red, plain)
    if diagnostic.hint:
        lines.append(f"  hint: {safe(diagnostic.hint)}")
    return "\n".join(lines) + "\n"


def _source(diagnostic: Diagnostic, red: str, plain: str) -> list[str]:
    where = diagnostic.position
    if where is None or where.line == 0 or not diagnostic.text.strip():
        return []
    text, at = diagnostic.text, min(where.column - 1, len(diagnostic.text))
    token = _TOKEN.match(text, at)
    wide = len(token.group().rstrip(":")) if token else 1
    start = max(0, at - _WINDOW // 2) if len(text) > _WINDOW else 0
    part = text[start : start + _WINDOW]
    cut = "..." if start else ""
    # The caret stands under what is shown: what is escaped takes more room than it has characters.
    before = cells(safe(text[start:at]))
    run = max(1, cells(safe(part[at - start : at - start + wide])))
    number = str(where.line)
    return [
        f"  {number} | {cut}{safe(part)}",
        f"  {' ' * len(number)} | {' ' * (len(cut) + before)}{red}{'^' * run}{plain}",
    ]
