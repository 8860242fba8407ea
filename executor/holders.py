"""Whether what holds a snapshot's disks is there: images with all that they rest on, copies, volumes.

The content of a disk has no digest: deleting an older snapshot rightly copies its data down into the image of the next.
So what is looked at is that each file is there and its own, and that an image's tables are sound. Nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from executor.chains import Chains
from executor.finding import NotFine, opened
from executor.look.ask import ask_in_part, find
from executor.parse import lvm
from planner.facts import Held, Image, Volume
from schema.diagnostic import Refused

_VHD = b"conectix"  # begins the footer, the last 512 bytes of a VHD
_SECTOR = 512
_LVS = f"{lvm.LVS},lv_health_status"


class Holders:
    """Looks at what holds disks; what several snapshots rest on is looked at once."""

    def __init__(self) -> None:
        self._chains = Chains()
        self._volumes: dict[str, Volume] = {}
        self._health: dict[str, str] = {}
        self._lvs: str | None = None

    def look(self, held: Held) -> str:
        """Return what is there of a disk, in words; raises NotFine if something is not."""
        match held.method:
            case "internal":
                return self._internal(held)
            case "external":
                return self._external(held)
            case "reflink" | "copy":
                return _copy(held)
            case "lvm":
                return self._volume(held)
            case "vhd":
                return _vhd(held)
            case "exclude":
                return f"nothing is held: {held.reason}" if held.reason else "nothing is held"
            case other:
                raise NotFine("unchecked", f"the method {other} is not known")

    def _internal(self, held: Held) -> str:
        images = list(self._chains.chain(held.holder))
        if held.tag not in images[0].snapshots:
            there = ", ".join(images[0].snapshots) or "none"
            raise NotFine("lost", f"{held.holder} holds no snapshot {held.tag}; it holds {there}")
        return self._checked(f"snapshot {held.tag} in {held.holder}", images)

    def _external(self, held: Held) -> str:
        images = list(self._chains.chain(held.holder))
        if _same(held.holder, held.path):
            raise NotFine("altered", f"{held.holder} is the disk {held.path} itself: the guest writes to it")
        if images[0].capacity != held.capacity:
            raise NotFine("altered", f"{held.holder} has {images[0].capacity} bytes; the disk had {held.capacity}")
        return self._checked(held.holder, images)

    def _checked(self, what: str, images: list[Image]) -> str:
        remarks = [remark for image in images if (remark := self._chains.tables(image.path))]
        rests = f", on {images[0].backing}" if images[0].backing else ""
        return "; ".join((f"{what}{rests}", *remarks))

    def _volume(self, held: Held) -> str:
        volume = self._listed().get(held.holder)
        if volume is None:
            if self._lvs:
                raise NotFine("unchecked", f"{held.holder}: {self._lvs}")
            raise NotFine("lost", f"there is no volume {held.holder}")
        if held.tag and held.tag not in volume.tags:
            raise NotFine("altered", f"{volume.id} has no tag {held.tag}: it is not the volume that the snapshot made")
        if volume.invalid:
            raise NotFine("altered", f"{volume.id} has overflowed: LVM has given it up")
        health = self._health[volume.id]
        if health in ("partial", "failed", "unknown"):
            raise NotFine("lost" if health == "partial" else "altered", f"LVM says of {volume.id}: {health}")
        if volume.kind == "thick-snapshot":
            origin = f"{volume.vg}/{volume.origin}"
            if f"/dev/{origin}" != held.path:
                raise NotFine("altered", f"{volume.id} is a snapshot of {origin}, not of {held.path}")
            full = "" if volume.data_percent is None else f", {volume.data_percent:.0f} % full"
            return f"{volume.id}{full}"
        if volume.size < held.capacity:
            raise NotFine("altered", f"{volume.id} has {volume.size} bytes; the disk had {held.capacity}")
        return volume.id

    def _listed(self) -> dict[str, Volume]:
        """Return the host's volumes by "vg/lv"; `_lvs` says what keeps them from being all."""
        if self._lvs is None:
            self._lvs = ""
            try:
                if not find("lvs"):
                    raise NotFine("unchecked", "this host has no lvs")
                text, self._lvs = ask_in_part(*_LVS.split(), begins="{")
                self._volumes = {volume.id: volume for volume in lvm.volumes(text)}
                self._health = dict(_health(text))
            except NotFine as error:
                self._lvs = str(error)
            except Refused as refused:
                self._lvs = refused.diagnostics[0].detail
        return self._volumes


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def _copy(held: Held) -> str:
    """Look at the copy of a raw disk; QEMU shows a guest whole sectors, whatever the length of the file."""
    with opened(held.holder) as file:
        size = os.fstat(file.fileno()).st_size
    if -(-size // _SECTOR) != -(-held.capacity // _SECTOR):
        raise NotFine("altered", f"{held.holder} has {size} bytes; the disk had {held.capacity}")
    if _same(held.holder, held.path):
        raise NotFine("altered", f"{held.holder} is the disk {held.path} itself: the guest writes to it")
    return held.holder


def _vhd(held: Held) -> str:
    with opened(held.holder) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _SECTOR))
        if file.read(len(_VHD)) != _VHD:
            raise NotFine("altered", f"{held.holder} does not end like a VHD")
    raise NotFine("unchecked", f"{held.holder} is there; whether what it rests on is, vhd-util would have to say")


def _health(text: str) -> Iterator[tuple[str, str]]:
    """Yield what LVM says of the health of each volume that `lvm.volumes` reads from the same text."""
    for report in json.loads(text)["report"]:
        for row in report["lv"]:
            yield f"{row['vg_name']}/{row['lv_name']}", row.get("lv_health_status", "")
