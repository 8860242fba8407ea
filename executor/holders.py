"""Whether what holds a snapshot's disks is there: images with all that they rest on, copies, volumes.

The content of a disk has no digest: deleting an older snapshot rightly copies its data down into the image of the next.
So what is looked at is that each file is there and its own, and that an image's tables are sound. Nothing is written.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from typing import Any

from executor.companion import Failed
from executor.finding import NotFine, opened
from executor.look.ask import ask_in_part, find
from executor.parse import lvm, qemu_img
from executor.programs import start
from planner.facts import Held, Image, Volume
from schema.diagnostic import Refused

_MAGIC = b"QFI\xfb"
_VHD = b"conectix"  # begins the footer, the last 512 bytes of a VHD
_SECTOR = 512
_LVS = f"{lvm.LVS},lv_health_status"
_PATIENCE = 3600.0  # seconds for one check; it reads all tables of an image, those of its tags too
_TRIES = 3


class Holders:
    """Looks at what holds disks; what several snapshots rest on is looked at once."""

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        self._sound: dict[str, str | NotFine] = {}
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
        images = list(self._chain(held.holder))
        if held.tag not in images[0].snapshots:
            there = ", ".join(images[0].snapshots) or "none"
            raise NotFine("lost", f"{held.holder} holds no snapshot {held.tag}; it holds {there}")
        return self._checked(f"snapshot {held.tag} in {held.holder}", images)

    def _external(self, held: Held) -> str:
        images = list(self._chain(held.holder))
        if _same(held.holder, held.path):
            raise NotFine("altered", f"{held.holder} is the disk {held.path} itself: the guest writes to it")
        if images[0].capacity != held.capacity:
            raise NotFine("altered", f"{held.holder} has {images[0].capacity} bytes; the disk had {held.capacity}")
        return self._checked(held.holder, images)

    def _checked(self, what: str, images: list[Image]) -> str:
        remarks = [remark for image in images if (remark := self._tables(image.path))]
        rests = f", on {images[0].backing}" if images[0].backing else ""
        return "; ".join((f"{what}{rests}", *remarks))

    def _chain(self, path: str) -> Iterator[Image]:
        """Yield the qcow2 image at `path` and those that it rests on; raises NotFine unless all of them are there.

        Each is asked for alone, in the format that is known of it: a guest writes what it likes at the beginning of a
        raw disk, and qemu-img would open what is named there.
        """
        seen: set[str] = set()
        above, form = "", "qcow2"
        while path:
            rests = f"; {above} rests on it" if above else ""
            if path in seen:
                raise NotFine("altered", f"{path} rests on itself")
            if above and not path.startswith("/"):
                raise NotFine("unchecked", f"{path} is no file of this host{rests}")
            seen.add(path)
            qcow2 = _begins(path, rests) == _MAGIC
            if form == "qcow2" and not qcow2:
                raise NotFine("altered", f"{path} is no qcow2 image any more{rests}")
            if form not in ("qcow2", "") or not qcow2:
                return
            yield (image := self._image(path))
            above, form = path, image.backing_format
            path = os.path.realpath(image.backing) if image.backing.startswith("/") else image.backing

    def _image(self, path: str) -> Image:
        if path not in self._images:
            argv = ("qemu-img", "info", "-U", "-f", "qcow2", "--output=json", "--", path)
            if not find("qemu-img"):
                raise NotFine("unchecked", f"{path} is there; without qemu-img no more can be said")
            try:
                done = start(argv)
                if done.status:
                    raise NotFine("altered", " ".join(done.err.split()) or f"qemu-img cannot read {path}")
                (self._images[path],) = qemu_img.images(path, done.out, {})
            except Failed as failed:
                raise NotFine("unchecked", str(failed)) from None
            except Refused as refused:
                raise NotFine("unchecked", refused.diagnostics[0].detail) from None
            if json.loads(done.out).get("dirty-flag"):
                self._sound[path] = f"the tables of {path} were not checked: it has lazy refcounts, and is in use"
        if self._images[path].corrupt:
            raise NotFine("altered", f"QEMU has marked {path} as corrupt")
        return self._images[path]

    def _tables(self, path: str) -> str:
        """Return a remark on an image's tables, "" if they are sound; raises NotFine if they are damaged.

        Read while a QEMU writes to it an image may look damaged that is not: that is believed only if nothing was
        written meanwhile. Clusters that leak do no harm, and are there after every crash.
        """
        if path not in self._sound:
            try:
                self._sound[path] = _tables(path)
            except NotFine as error:
                self._sound[path] = error
        found = self._sound[path]
        if isinstance(found, NotFine):
            raise NotFine(found.outcome, str(found))
        return found

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


def _begins(path: str, rests: str) -> bytes:
    """Return the first bytes of an image: a file, or a block device whose name under /dev may be a link."""
    try:
        if path.startswith("/dev/") and stat.S_ISBLK(os.stat(path).st_mode):
            with open(path, "rb", buffering=0) as device:
                return device.read(len(_MAGIC))
        with opened(path) as file:
            return file.read(len(_MAGIC))
    except NotFine as error:
        raise NotFine(error.outcome, f"{error}{rests}") from None
    except FileNotFoundError:
        raise NotFine("lost", f"{path} is not there{rests}") from None
    except ValueError:
        raise NotFine("altered", "a name with a NUL is no file's") from None
    except OSError as error:
        raise NotFine("unchecked", f"{path}: {error.strerror}{rests}") from None


def _tables(path: str) -> str:
    for _ in range(_TRIES):
        before = _state(path)
        try:
            argv = ("qemu-img", "check", "-U", "-f", "qcow2", "--output=json", "--", path)
            text, _failure = ask_in_part(*argv, begins="{", patience=_PATIENCE)  # it fails for leaks too
            said: Any = json.loads(text)
        except Refused as refused:
            raise NotFine("unchecked", refused.diagnostics[0].detail) from None
        except ValueError:
            raise NotFine("unchecked", f"what qemu-img check says of {path} cannot be read") from None
        errors, unread = said.get("corruptions", 0), said.get("check-errors", 0)
        if not errors and not unread:
            return ""
        if before == _state(path):
            if errors:
                raise NotFine("altered", f"the tables of {path} are damaged: qemu-img check counts {errors} errors")
            raise NotFine("unchecked", f"qemu-img check could not read all tables of {path}")
    raise NotFine("unchecked", f"the tables of {path} look damaged, but it is being written to: verify again later")


def _state(path: str) -> tuple[int, int]:
    try:
        about = os.stat(path)
    except OSError as error:
        raise NotFine("unchecked", f"{path}: {error.strerror}") from None
    return about.st_mtime_ns, about.st_size


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
