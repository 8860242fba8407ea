"""Whether a qcow2 image and all that it rests on are there, and their tables sound; nothing is written."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from executor.companion import Failed
from executor.finding import NotFine, opened
from executor.look.ask import ask_in_part, find
from executor.parse import qemu_img
from executor.programs import start
from planner.commands import canonical
from planner.facts import Image
from schema.diagnostic import Refused

_MAGIC = b"QFI\xfb"
_PROTOCOL = re.compile("[A-Za-z0-9+.-]+:")
_PATIENCE = 3600.0  # seconds for one check; it reads all tables of an image, those of its tags too
_TRIES = 3


class Chains:
    """Looks at images; what several rest on is looked at once."""

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        self._foreign: dict[str, str] = {}
        self._sound: dict[str, str | NotFine] = {}

    def chain(self, path: str) -> Iterator[Image]:
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
            above, form, path = path, image.backing_format, self._below(image)

    def _below(self, image: Image) -> str:
        """Return the path of what an image rests on, links resolved; what is no file of this host as QEMU names it."""
        foreign = self._foreign.get(image.path, "")
        return foreign or (os.path.realpath(image.backing) if image.backing else "")

    def _image(self, path: str) -> Image:
        if path not in self._images:
            self._images[path], said = _info(path)
            name = qemu_img.plain_name(said.get("full-backing-filename") or said.get("backing-filename") or "")
            if _PROTOCOL.match(name):
                self._foreign[path] = name
            if said.get("dirty-flag"):
                self._sound[path] = f"the tables of {path} were not checked: it has lazy refcounts, and is not closed"
        if self._images[path].corrupt:
            raise NotFine("altered", f"QEMU has marked {path} as corrupt")
        return self._images[path]

    def tables(self, path: str) -> str:
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


def _info(path: str) -> tuple[Image, Any]:
    """Return what qemu-img says of an image that is there, read and as it says it; raises NotFine."""
    if not find("qemu-img"):
        raise NotFine("unchecked", f"{path} is there; without qemu-img no more can be said")
    try:
        done = start(("qemu-img", "info", "-U", "-f", "qcow2", "--output=json", "--", path))
    except Failed as failed:
        raise NotFine("unchecked", str(failed)) from None
    if done.status:
        why = " ".join(done.err.split()) or f"qemu-img info {path}: exit status {done.status}"
        raise NotFine("altered" if done.status == 1 and done.err else "unchecked", why)
    try:
        (image,) = qemu_img.images(path, done.out, {})
    except (Refused, ValueError):
        raise NotFine("unchecked", f"what qemu-img info says of {path} cannot be read") from None
    return image, json.loads(done.out)


def _tables(path: str) -> str:
    # By its name alone qemu-img check would open what the image rests on too.
    alone = "json:" + canonical({"driver": "qcow2", "backing": None, "file.filename": path})
    for _ in range(_TRIES):
        before = _state(path)
        try:
            argv = ("qemu-img", "check", "-U", "--output=json", alone)
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
