"""domsnap, killed once it has written so many lines to its journal: `python -m tests.sandbox.killed LINES WORD...`.

A line goes before and after every command of a plan, so that each instant between two of them can be had.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from domsnap.__main__ import main
from executor.journal import Journal

_left = [int(sys.argv.pop(1))]
_itself = os.getpid()
_note = Journal.note


def note(self: Journal, event: str, *, sync: bool = True, **said: Any) -> None:
    """Write the line as ever; the guardian, another process by then, is not counted."""
    _note(self, event, sync=sync, **said)
    if os.getpid() == _itself:
        _left[0] -= 1
        if not _left[0]:
            os.kill(_itself, signal.SIGKILL)


Journal.note = note  # type: ignore[method-assign]
main()
