"""The records of the store: what each snapshot holds, and the domains that only they still know."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from executor.parse import lvm
from executor.parse.unreadable import read_json, unreadable
from planner.facts import Disk, Domain, Held, Record, Volume, record_from_json

VERSION = 1


def record(folder: str, text: str) -> Record:
    """Return the record that lies in `folder`, wherever it lay when it was written."""
    command = f"cat {folder}/record.json"
    said = read_json(command, text)
    if not isinstance(said, dict) or said.get("version") != VERSION:
        raise unreadable(command, text, f"not a record of version {VERSION}")
    try:
        return record_from_json({**said, "folder": folder})
    except (KeyError, TypeError, AttributeError) as error:
        raise unreadable(command, text, f"not a record ({error})") from None


def stopped(records: tuple[Record, ...], running: Collection[str], volumes: tuple[Volume, ...]) -> Iterator[Domain]:
    """Yield the domains that are off, each as its newest record has it."""
    newest: dict[str, Record] = {}
    for each in records:
        if each.domain not in running and each.taken >= newest.get(each.domain, each).taken:
            newest[each.domain] = each
    for name, last in sorted(newest.items()):
        disks = tuple(_disk(held, volumes) for held in last.disks)
        yield Domain(name, last.uuid, last.type, "off", last.memory_size, disks)  # type: ignore[arg-type]


def _disk(held: Held, volumes: tuple[Volume, ...]) -> Disk:
    volume = next((each.id for each in volumes if lvm.path(each) == held.path), "")
    return Disk(held.vdev, held.backend, held.format, held.path, held.path, held.capacity, volume=volume)
