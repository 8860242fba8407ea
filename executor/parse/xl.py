"""What `xl` prints: the host, the list of domains with their states, their configurations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from executor.parse.unreadable import member, read_json, unreadable
from planner.facts import Host, State

INFO = "xl info"
LIST = "xl list -v"
LONG = "xl list -l"

# Read from the right: a domain's name may hold spaces (tools/xl/xl_list.c prints "%-40s %5d %5lu %5d     %6s  %8.1f").
_ROW = re.compile(
    r"(?P<name>.*\S) +(?P<domid>[0-9]+) +(?P<memory>[0-9]+) +[0-9]+ +"
    r"(?P<state>[r-][b-][p-][s-][rscwS?-][d-]) +[0-9]+[.][0-9]"
    r"(?: (?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?: .*)?)?"
)
_REASONS: dict[str, State] = {
    "-": "shut-down", "?": "shut-down", "r": "rebooting", "S": "rebooting", "s": "suspended", "c": "crashed",
    "w": "crashed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `xl list`; `uuid` is "" without -v."""

    name: str
    domid: int
    state: State
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Configured:
    """One disk as the configuration has it; `format` is "empty" for a drive without a medium."""

    vdev: str
    target: str
    format: str
    writable: bool
    cdrom: bool


@dataclass(frozen=True, slots=True)
class Configuration:
    """What `xl list -l` says of one domain; memory in bytes. dm_restrict: its device model is chrooted."""

    domid: int
    name: str
    type: str
    memory: int
    disks: tuple[Configured, ...]
    vnuma: bool
    devices: tuple[str, ...]
    dm_restrict: bool


def host(text: str) -> Host:
    """Return the host that `xl info` describes; it gives memory in MiB."""
    said = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in text.splitlines())}

    def get(key: str) -> str:
        if key not in said:
            raise unreadable(INFO, text, f"no line {key!r}")
        return said[key]

    def mebibytes(key: str) -> int:
        if not get(key).isdecimal():
            raise unreadable(INFO, get(key), f"{key} is not a number")
        return int(get(key)) * 2**20

    version = get("xen_version")
    if not re.match(r"[0-9]+[.][0-9]+", version):
        raise unreadable(INFO, version, "xen_version is not a version")
    total, free = mebibytes("total_memory"), mebibytes("free_memory")
    return Host(get("host"), version, tuple(get("virt_caps").split()), total, free)


def rows(text: str) -> Iterator[Row]:
    """Yield the domains of `xl list`, with or without -v, dom0 among them."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("Name "):
        raise unreadable(LIST, text, "its first line is not the heading")
    for line in lines[1:]:
        found = _ROW.fullmatch(line.rstrip())
        if found is None:
            raise unreadable(LIST, line, "a line that is no domain")
        yield Row(found["name"], int(found["domid"]), state(found["state"]), found["uuid"] or "")


def state(column: str) -> State:
    """Return the state that the six letters of `xl list` mean: r b p s, the reason of a shutdown, d."""
    if column[5] == "d":
        return "dying"
    if column[3] == "s":
        return _REASONS[column[4]]
    return "paused" if column[2] == "p" else "running"


def configurations(text: str) -> Iterator[Configuration]:
    """Yield what `xl list -l` says of each domain; a configuration of dom0 is among them."""
    for entry in read_json(LONG, text):
        config = member(LONG, entry, "config")
        build = member(LONG, config, "b_info")
        restrict = str(build.get("dm_restrict", "False")) == "True"
        yield Configuration(
            domid=member(LONG, entry, "domid"),
            name=member(LONG, config, "c_info", "name"),
            type=member(LONG, config, "c_info", "type"),
            memory=member(LONG, build, "target_memkb") * 1024,
            disks=tuple(_configured(disk) for disk in config.get("disks", ())),
            vnuma=bool(build.get("vnuma_nodes")),
            devices=tuple(_devices(config)),
            dm_restrict=restrict,
        )


def _configured(disk: dict[str, Any]) -> Configured:
    return Configured(
        vdev=member(LONG, disk, "vdev"),
        target=disk.get("pdev_path") or "",
        format=disk.get("format", "raw"),
        writable=bool(disk.get("readwrite", 0)),
        cdrom=bool(disk.get("is_cdrom", 0)),
    )


def _devices(config: dict[str, Any]) -> Iterator[str]:
    """Yield the devices whose state xl cannot save."""
    for device in config.get("pcidevs", ()):
        domain, bus, slot, function = (device.get(key, 0) for key in ("domain", "bus", "dev", "func"))
        yield f"the PCI device {domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
    yield from (f"the device-tree node {device.get('path', '')}" for device in config.get("dtdevs", ()))
    yield from (f"the virtual TPM {device.get('devid', 0)}" for device in config.get("vtpms", ()))
    yield from (f"the USB device {device.get('devnum', 0)}" for device in config.get("usbdevs", ()))
