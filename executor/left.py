"""What there is to finish: plans that were cut off, and domains that stand suspended. It is looked at alone."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import Path

from executor import journal, programs
from executor.companion import Failed
from executor.journal import FOLDER, Past
from executor.parse import xl
from schema.diagnostic import Refused


def unfinished(store: str, domain: str = "") -> Iterator[tuple[Path, Past]]:
    """Yield the journals of plans that did not come to their end, of one domain or of all, with what they say.

    One that ended with 6 counts as long as no other plan of the domain began after it: whoever finished it by hand goes
    on with the next.
    """
    for folder in sorted(Path(store).glob(f"{escape(domain) or '*'}/{FOLDER}")):
        all_of_it = [(path, journal.read(path)) for path in sorted(folder.glob("*.jsonl"))]
        latest = max((past.since for _, past in all_of_it), default="")
        for path, past in all_of_it:
            if past.status is None or (past.open and past.since == latest):
                yield path, past


def suspended() -> list[tuple[str, int]]:
    """Return the name and number of each domain that stands suspended, as one does whose xl was killed; none where xl
    does not say."""
    try:
        done = programs.start(("xl", "list"))
        return [(row.name, row.domid) for row in xl.rows(done.out) if row.state == "suspended"]
    except (Failed, Refused):
        return []
