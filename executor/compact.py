"""Puts in the place of a live capture's memory image one that holds the last copy of each page alone.

The record decides which of the two images counts, and is replaced by one rename: at every instant there is an image
with its digest by which the snapshot can be verified and restored. The other one is what is left over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from os.path import dirname
from typing import BinaryIO, Literal

from executor import durable
from executor.companion import Failed
from executor.finding import NotFine, Odd, opened, regular
from executor.pages import Copy, Declined, Outline, outline
from executor.programs import Watch
from executor.signals import Signals
from executor.stream import walk
from executor.verify import noted
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
    before = {**after, "memory": command.image, "compacted": False}
    return "target" if said == after else "image" if said == before else ""


def _make(command: Compact, signals: Signals, watch: Watch) -> str:
    """Write the compacted image and its digest, durably, and return what there is to say of it.

    Raises NotFine, OSError, ValueError (Declined, BrokenImage), and Failed if a signal came; nothing is left then.
    """
    with opened(command.image) as image:
        found = outline(image)
        size = found.size - found.saved
        if found.saved * _LEAST < found.size:
            raise Declined(f"of {found.size // _MIB} MiB {found.saved // _MIB} would be saved")
        there = os.statvfs(dirname(command.target))
        if there.f_bavail * there.f_frsize < size + _SPARE:
            raise Declined(f"there is no room for {size // _MIB} MiB beside it")
        target = os.open(command.target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(target, "r+b") as made:
                digest = _fill(made, Copy(image, target, _progress(found.size, signals, watch)), found, command.image)
            durable.write(f"{command.target}.sha256", f"{digest}  {command.target}\n")
            durable.sync_folder(dirname(command.target))
        except BaseException:
            clear(command)
            raise
    return f"memory: {found.size // _MIB} MiB as it came, {size // _MIB} MiB with the last copy of each page alone"


def _fill(made: BinaryIO, copy: Copy, found: Outline, source: str) -> str:
    """Make the copy durable and return its SHA-256, or raise what says that it is not to be had."""
    copy.make(found)
    if copy.was.hexdigest() != noted(source):
        raise Declined("it is not what was written: its SHA-256 is another")
    os.fsync(made.fileno())
    made.seek(0)
    if walk(made) != found.size - found.saved:
        raise Declined("what was made of it has another size than it should")
    return copy.now.hexdigest()


def _progress(size: int, signals: Signals, watch: Watch) -> Callable[[int], None]:
    next_word = 0

    def told(done: int) -> None:
        nonlocal next_word
        signals.still_wanted()
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
