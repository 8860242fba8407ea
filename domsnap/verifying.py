"""What `verify` does: looks at everything that snapshots need, and says what is lost or altered."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from domsnap.door import colors, complain, emit_text
from domsnap.listing import emit_json, record_of, shelves_of
from domsnap.terminal import Ink, safe
from domsnap.units import size

if TYPE_CHECKING:
    from executor.finding import Finding

_STYLES = {"fine": "green", "lost": "red", "altered": "red", "unchecked": "yellow"}
_EVERY = 0.5  # seconds between two words on how far a memory image is read


def verify(domain: str, snapshot: str, store: str, *, as_json: bool) -> int:
    """Look at one snapshot, those of a domain, or all; print each finding. Returns 6 if something is lost or altered.

    What could not be looked at is said, and no failure. Raises Refused.
    """
    ink, counts, said = Ink(colors(sys.stdout)), Counter[str](), []
    for found in _findings(domain, snapshot, store):
        counts[found.outcome] += 1
        if as_json:
            said.append(asdict(found))
        else:
            name = safe("/".join(part for part in (found.domain, found.snapshot) if part))
            outcome = ink(_STYLES[found.outcome], f"{found.outcome:<9}")
            emit_text(f"{name}  {safe(found.what):<7}  {outcome}  {safe(found.detail)}\n")
    if as_json:
        emit_json({"findings": said})
    else:
        there = [f"{counts[each]} {each}" for each in _STYLES if counts[each]]
        emit_text(f"{', '.join(there)}\n" if there else f"no snapshots in {safe(store)}\n")
    return 6 if counts["lost"] or counts["altered"] else 0


def _findings(domain: str, snapshot: str, store: str) -> Iterator[Finding]:
    from executor.holders import Holders
    from executor.verify import finding, verify

    holders, shelves = Holders(), shelves_of(domain, store)
    for shelf in shelves:
        records = [record_of(shelf, snapshot)] if snapshot else shelf.records
        for record in records:
            yield from verify(record, holders, _Progress(f"{record.domain}/{record.snapshot}"))
        for problem in () if snapshot else shelf.problems:
            if found := finding(problem):
                yield found


class _Progress:
    """Says on a terminal how much of a memory image has been read."""

    def __init__(self, name: str) -> None:
        self.name, self.last = safe(name), time.monotonic()

    def __call__(self, done: int, whole: int) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self.last < _EVERY:
            return
        self.last = now
        sys.stderr.write(f"\r\x1b[K{self.name}: {size(done)} of {size(whole)} of memory read\r")
        sys.stderr.flush()
        if done >= whole:
            complain("\x1b[K")
