"""What a domain's QEMU answers on its QMP monitor: its disks, its graph of images, its jobs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executor.parse.qemu_img import plain_name
from executor.parse.unreadable import member, read_json, unreadable

BLOCK = "query-block"
WRITES = "query-blockstats"
NODES = "query-named-block-nodes"
JOBS = "query-block-jobs"
STATUS = "query-status"
VERSION = "query-version"
GRAPH = "x-debug-query-block-graph"
VDEVS = "qom-get vdev"


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk as QEMU has it. device: QEMU's name, "" for a PV disk. vdev: the device's own answer, "" if it has none.

    nodes: (node name, file name, name of the node that is the file itself) of the chain, active image first; the names
    of files are those of the moment QEMU opened them, and the last is "" without QEMU's graph. capacity: bytes.
    """

    device: str
    vdev: str
    nodes: tuple[tuple[str, str, str], ...]
    capacity: int


def drives(answers: Mapping[str, str]) -> Iterator[Drive]:
    """Yield the disks that have a medium.

    `answers` maps each command to the JSON of its return value: query-block and query-named-block-nodes must be there;
    "qom-get vdev" is one object that maps each device's QOM path to its property `vdev`; with
    x-debug-query-block-graph the chains are QEMU's own edges, without it they are followed by file names.
    """
    named = {member(NODES, node, "node-name"): node for node in _answer(answers, NODES)}
    edges = _edges(answers) if GRAPH in answers else {"backing": _by_name(named)}
    below, files = edges.get("backing", {}), edges.get("file", {})
    vdevs = _answer(answers, VDEVS) if VDEVS in answers else {}
    for drive in _answer(answers, BLOCK):
        inserted = drive.get("inserted")
        if inserted is None:
            continue
        root = member(BLOCK, inserted, "node-name")
        names = [name for name in _follow(root, below) if name in named]
        chain = tuple((name, plain_name(named[name]["file"]), files.get(name, "")) for name in names)
        if not chain:
            raise unreadable(NODES, answers[NODES], f"no node {root!r}, which query-block names")
        vdev = _whole(vdevs.get(drive.get("qdev", ""), "")) or _vdev_of_name(root)
        yield Drive(drive.get("device", ""), vdev, chain, member(BLOCK, inserted, "image", "virtual-size"))


def _whole(vdev: str) -> str:
    """Return "xvda" for "xvda0": QEMU says the partition of a whole disk too (hw/block/xen-block.c; seen on 10.0)."""
    found = re.fullmatch("((?:xvd|hd|sd)[a-z]+)0", vdev)
    return found[1] if found else vdev


def _vdev_of_name(node: str) -> str:
    """Return the vdev that QEMU made a PV disk's node name of: VDEV-DRIVER (hw/block/xen-block.c, since 4.0)."""
    vdev, dash, _ = node.partition("-")
    return vdev if dash and vdev.startswith(("xvd", "hd", "sd")) else ""


def _follow(root: str, below: Mapping[str, str]) -> Iterator[str]:
    seen: set[str] = set()
    name: str | None = root
    while name and name not in seen:
        seen.add(name)
        yield name
        name = below.get(name)


def _edges(answers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return kind of child -> node -> its child of that kind as QEMU's graph has it: "backing" is its backing node,
    "file" that of the file it lies in."""
    graph = _answer(answers, GRAPH)
    names = {node["id"]: node["name"] for node in member(GRAPH, graph, "nodes")}
    edges: Sequence[Mapping[str, Any]] = member(GRAPH, graph, "edges")
    found: dict[str, dict[str, str]] = {}
    for edge in edges:
        found.setdefault(edge["name"], {})[names[edge["parent"]]] = names[edge["child"]]
    return found


def _by_name(named: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return node -> backing node, where `backing_file` is the `file` of exactly one image."""
    owners: dict[str, list[str]] = {}
    for name, node in named.items():
        if node.get("drv") not in ("file", "host_device"):
            owners.setdefault(node["file"], []).append(name)
    below = {}
    for name, node in named.items():
        backing = node.get("backing_file", "")
        match [other for other in owners.get(backing, ()) if other != name]:
            case [only]:
                below[name] = only
            case [_, _, *_] as several:
                raise unreadable(NODES, str(several), f"several nodes are called {backing!r}: ask for {GRAPH} too")
    return below


def writes(answers: Mapping[str, str], devices: Collection[str]) -> int:
    """Return how many times the guest has written through drives with these names since QEMU was started."""
    said = [each for each in _answer(answers, WRITES) if each.get("device") in devices]
    return sum(member(WRITES, each, "stats", "wr_operations") for each in said)


def jobs(answers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the block jobs that there are; a job without a name of its own has its device's."""
    return tuple(member(JOBS, job, "device") for job in _answer(answers, JOBS))


def status(answers: Mapping[str, str]) -> str:
    return str(member(STATUS, _answer(answers, STATUS), "status"))


def version(answers: Mapping[str, str]) -> str:
    said = member(VERSION, _answer(answers, VERSION), "qemu")
    return ".".join(str(member(VERSION, said, part)) for part in ("major", "minor", "micro"))


def _answer(answers: Mapping[str, str], command: str) -> Any:
    if command not in answers:
        raise unreadable(command, "", "QEMU was not asked")
    return read_json(command, answers[command])
