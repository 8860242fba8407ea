"""Which facts a plan rests on, as one flat mapping: whoever runs it observes again and compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planner.facts import Domain, Facts, Image, Process


def assumptions(facts: Facts, domain: Domain) -> dict[str, Any]:
    """Return "what: property" -> value for all that a plan on this domain rests on. What changes by itself while a
    guest runs (free space, allocated bytes, percentages) is not in it: that is checked, not compared."""
    return {f"{what}: {name}": value for what, name, value in _each(facts, domain)}


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (what, old, new) for every assumption that no longer holds; None stands for "not there"."""
    return [(what, then.get(what), now.get(what)) for what in sorted({*then, *now}) if then.get(what) != now.get(what)]


def _each(facts: Facts, domain: Domain) -> Iterator[tuple[str, str, Any]]:
    who = f"domain {domain.name}"
    yield "host", "Xen", facts.host.xen
    yield who, "UUID", domain.uuid
    yield who, "domid", domain.domid
    yield who, "type", domain.type
    yield who, "state", domain.state
    yield who, "memory", domain.memory
    yield who, "xl monitor", _process(domain.xl_monitor)
    if domain.qemu:
        yield who, "QEMU", _process(domain.qemu.process)
        yield who, "QMP monitor", domain.qemu.monitor
        yield who, "block jobs", list(domain.qemu.jobs)
    for disk in domain.disks:
        what = f"{who} disk {disk.vdev}"
        yield what, "backend", disk.backend
        yield what, "format", disk.format
        yield what, "path", disk.path
        yield what, "size", disk.capacity
        yield what, "nodes", [[node.name, node.file, node.path] for node in disk.nodes]
        if disk.volume:
            yield from _volumes(facts, disk.volume)
    held = {held.holder for record in facts.records_of(domain.name) for held in record.disks}
    paths = {image.path: image for disk in domain.disks for image in facts.chain(disk.path)}
    paths |= {image.path: image for holder in held for image in facts.chain(holder)}
    for path in sorted(paths):
        yield from _image(facts, paths[path])
    for record in facts.records_of(domain.name):
        yield f"snapshot {record.snapshot}", "state", record.state
        yield (
            f"snapshot {record.snapshot}",
            "holds",
            [[held.vdev, held.method, held.holder, held.tag] for held in record.disks],
        )


def _image(facts: Facts, image: Image) -> Iterator[tuple[str, str, Any]]:
    what = f"image {image.path}"
    yield what, "file", image.inode
    yield what, "backing file", image.backing
    yield what, "internal snapshots", list(image.snapshots)
    yield what, "children", sorted(child.path for child in facts.children(image.path))


def _volumes(facts: Facts, name: str) -> Iterator[tuple[str, str, Any]]:
    volume = facts.volume(name)
    if volume is None:
        return
    yield f"volume {name}", "UUID", volume.uuid
    yield f"volume {name}", "size", volume.size
    yield f"volume {name}", "kind", volume.kind
    yield f"volume {name}", "snapshots", sorted([v.name, v.uuid, v.invalid] for v in facts.snapshots_of(volume))


def _process(process: Process | None) -> list[Any] | None:
    return [process.pid, process.started] if process else None
