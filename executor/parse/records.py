"""The records of the store: what each snapshot holds, and the domains that only they still know."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from executor.parse import lvm
from planner.facts import Disk, Domain, Held, Record, Volume, record_from_json
from schema.read import read_json


def record(folder: str, text: str) -> Record:
    """Return the record that lies in `folder`, wherever it lay when written; raises Refused if it is not valid."""
    said = read_json("record", text.encode(), f"{folder}/record.json")
    return record_from_json({**said, "folder": folder})


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
