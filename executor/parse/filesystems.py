"""What `findmnt` and `df` print: the mounted filesystems, their kinds and free space."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from executor.parse.unreadable import member, read_json, unreadable
from planner.facts import Filesystem

FINDMNT = "findmnt --json"
DF = "df --block-size=1 --portability"

# The source may hold spaces, and so may the mount point: the numbers stand between them.
_ROW = re.compile(r".*\S +(?P<size>[0-9]+) +[0-9]+ +(?P<free>[0-9]+) +(?:[0-9]+%|-) (?P<mount>/.*)")
_NO_HARD_LINKS = {"vfat", "msdos", "exfat"}


def filesystems(findmnt: str, df: str, reflink: Collection[str]) -> Iterator[Filesystem]:
    """Yield the filesystems that `df` lists; `reflink` names the mount points where files can share blocks."""
    kinds = dict(_kinds(member(FINDMNT, read_json(FINDMNT, findmnt), "filesystems")))
    for line in df.splitlines()[1:]:
        found = _ROW.fullmatch(line)
        if found is None:
            raise unreadable(DF, line, "a line that is no filesystem")
        mount = found["mount"]
        if (
            mount not in kinds and "?" in mount
        ):  # df's word for control characters, which any user's FUSE mount may have
            continue
        if mount not in kinds:
            raise unreadable(FINDMNT, findmnt, f"no {mount!r}, which df lists")
        kind = kinds[mount]
        yield Filesystem(
            mount, kind, int(found["size"]), int(found["free"]), mount in reflink, kind not in _NO_HARD_LINKS
        )


def _kinds(tree: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield mount point and kind, outer first: of two mounts on one point the later one is seen."""
    for entry in tree:
        yield member(FINDMNT, entry, "target"), member(FINDMNT, entry, "fstype")
        yield from _kinds(entry.get("children", []))
