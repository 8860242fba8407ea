"""Puts a smaller one in the place of a memory image: the last copy of each page of a live capture alone, or compressed.

The record decides which of the two images counts, and is replaced by one rename: at every instant there is an image
with its digest by which the snapshot can be verified and restored. The other one is what is left over.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from os.path import dirname
from typing import BinaryIO, Literal

from executor import durable
from executor.companion import Failed
from executor.finding import NotFine, Odd, opened, regular
from executor.pages import Copy, Declined, Outline, outline, plain
from executor.piped import read_from, written_to
from executor.programs import Watch
from executor.signals import Signals
from executor.stream import walk
from executor.verify import digest, noted
from planner.commands import Compact

_MIB = 2**20
_LEAST = 20  # of so many bytes one is to be saved at least
_SPARE = 64 * _MIB  # bytes that are left for whatever else grows on that filesystem, such as the guest's disks
_TOLD = 64 * _MIB  # bytes read between two words about it
_LARGEST = 2**20  # bytes of a record


def compact(command: Compact, signals: Signals, watch: Watch) -> None:
    """Carry it out, or say why not. Whatever happens, record and image of the snapshot are whole; raises nothing."""
    names = _names(command)
    if not names:
        watch.told("the memory image stays as it came: the record of its snapshot is not as it was written")
        return
    if names == "image":
        try:
            said = _make(command, signals, watch)
            _switch(command)
        except (NotFine, Failed, ValueError, OSError, MemoryError) as error:
            watch.told(f"the memory image stays as it came, which is as good: {_why(error)}")
            return
        watch.told(said)
    settle(command)


def settle(command: Compact) -> None:
    """Remove what the record does not name: what was half made, or what it was made of."""
    clear(command)
    if _names(command) == "target":
        with suppress(OSError):  # what is left is removed with the snapshot
            durable.sync_folder(dirname(command.record))  # whoever renamed it may have been killed before this
            _remove(f"{command.image}.sha256", command.image)


def clear(command: Compact) -> None:
    """Remove what an attempt that failed or was cut off has half made; the plan has proved its names to be free."""
    if _names(command) == "image":
        _remove(f"{command.record}.part", f"{command.target}.sha256", command.target)


def _names(command: Compact) -> Literal["image", "target", ""]:
    """Return which of the two the record names; "" if it is another one by now, or cannot be read."""
    after = json.loads(command.text)
    try:
        with regular(command.record) as file:
            said = json.loads(file.read(_LARGEST))
    except (OSError, Odd, ValueError):
        return ""
    before = {**after, "memory": command.image, "shrunk": False}
    return "target" if said == after else "image" if said == before else ""


def _make(command: Compact, signals: Signals, watch: Watch) -> str:
    """Write the smaller image and its digest, durably, and return what there is to say of it.

    Raises NotFine, OSError, ValueError (Declined, BrokenImage), and Failed if a signal came; nothing is left then.
    """
    with opened(command.image) as image:
        found = _outline(command, image)
        if not command.through:
            _worth(found.size, found.size - found.saved)
            if _room(command) < found.size - found.saved + _SPARE:
                raise Declined(f"there is no room for {(found.size - found.saved) // _MIB} MiB beside it")
        target = os.open(command.target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(target, "r+b") as made:
                copy = Copy(image, _progress(command, found.size, signals, watch))
                sha256 = _fill(made, copy, found, command, signals, watch)
                size = os.fstat(target).st_size
            durable.write(f"{command.target}.sha256", f"{sha256}  {command.target}\n")
            durable.sync_folder(dirname(command.target))
        except BaseException:
            clear(command)
            raise
    how = ["compressed"] * bool(command.through) + ["with the last copy of each page alone"] * (found.saved > 0)
    return f"memory: {found.size // _MIB} MiB as it came, {size // _MIB} MiB {', '.join(how)}"


def _outline(command: Compact, image: BinaryIO) -> Outline:
    """Return what of the image is to be kept: what cannot be compacted can be compressed."""
    if command.pages:
        try:
            return outline(image)
        except Declined:
            if not command.through:
                raise
    return plain(image)


def _fill(made: BinaryIO, copy: Copy, found: Outline, command: Compact, signals: Signals, watch: Watch) -> str:
    """Make the copy durable and return the SHA-256 of its file, or raise what says that it is not to be had."""
    if command.through:
        with written_to(command.through, made.fileno(), watch.begun, signals.still_wanted) as write:
            copy.make(found, write)
        _worth(found.size, os.fstat(made.fileno()).st_size)
    else:
        copy.make(found, lambda data: os.write(made.fileno(), data))
    if copy.was.hexdigest() != noted(command.image):
        raise Declined("it is not what was written: its SHA-256 is another")
    os.fsync(made.fileno())
    if not command.through:
        made.seek(0)
        _same(walk(made), found)
        return copy.now.hexdigest()
    # Read from its disk, and dropped from memory: what is decompressed is what lies on the disk, too.
    sha256, held = digest(made, lambda *_: signals.still_wanted()), hashlib.sha256()
    with read_from(command.back, signals.still_wanted, held.update) as back:
        _same(walk(back), found)
    if held.digest() != copy.now.digest():
        raise Declined("what was compressed of it is not what it decompresses to")
    return sha256


def _same(size: int, found: Outline) -> None:
    if size != found.size - found.saved:
        raise Declined("what was made of it has another size than it should")


def _worth(size: int, smaller: int) -> None:
    if (size - smaller) * _LEAST < size:
        raise Declined(f"of {size // _MIB} MiB {max(size - smaller, 0) // _MIB} would be saved")


def _room(command: Compact) -> int:
    there = os.statvfs(dirname(command.target))
    return there.f_bavail * there.f_frsize


def _progress(command: Compact, size: int, signals: Signals, watch: Watch) -> Callable[[int], None]:
    next_word = 0

    def told(done: int) -> None:
        nonlocal next_word
        signals.still_wanted()
        if _room(command) < _SPARE:
            raise Declined("there is no more room beside it")
        if done >= next_word:
            next_word = done + _TOLD
            watch.told(f"memory: {done // _MIB} of {size // _MIB} MiB looked through; the guest runs", passing=True)

    return told


def _switch(command: Compact) -> None:
    """Let the record name the other image. Raises OSError; what the record then names, and what not, is left."""
    part = f"{command.record}.part"
    try:
        durable.write(part, command.text)
        durable.rename(part, command.record)
    except OSError:
        clear(command)
        raise


def _why(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error) or "there is not enough memory"


def _remove(*paths: str) -> None:
    for path in paths:
        with suppress(OSError):  # it is removed with the snapshot
            os.unlink(path)
