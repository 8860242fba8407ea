"""Finds the images concerned - disks, what they rest on, every qcow2 beside them - and has qemu-img describe each."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from executor.look.ask import ask, find
from executor.parse import qemu_img
from planner.facts import Image
from schema.diagnostic import Diagnostic, Refused

PATIENCE = 20.0  # seconds for one image
_QEMU_NAMES = {"vhd": "vpc"}
_MAGIC = b"QFI\xfb"
_DATA_FILE = 4  # among the incompatible features in a header of version 3 (QEMU's docs/interop/qcow2.txt)
_AT_ONCE = 4


@dataclass(slots=True)
class Images:
    """Of the images by path: the text of `qemu-img info`, and "device:inode" of those that are regular files.

    links: the paths behind names that stand for another file. left_out: what cannot be described, and why.
    """

    texts: dict[str, str] = field(default_factory=dict)
    inodes: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Diagnostic] = field(default_factory=dict)


def images(files: Mapping[str, str]) -> Images:
    """Return what there is to know of the images with these absolute paths, each with its format or "".

    Each is asked for once, in the format that it is known to have: a guest writes what it likes at the beginning of its
    raw disk. qemu-img opens no backing file here; they are followed one by one, as far as they are files of this host.
    """
    found = Images()
    asked: set[str] = set()
    searched: set[str] = set()
    waiting = dict(files) if find("qemu-img") else {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while waiting:
            chosen = {path: form for path, form in _resolved(found, waiting) if path not in asked}
            asked.update(chosen)
            below: list[Image] = []
            for path, said in zip(chosen, pool.map(_info, chosen, chosen.values()), strict=True):
                if isinstance(said, Diagnostic):
                    found.left_out[path] = said
                elif said:
                    image, found.texts[path], inode = said
                    found.inodes.update({path: inode} if inode else {})
                    below.append(image)
            waiting = {image.backing: image.backing_format for image in below if image.backing.startswith("/")}
            if not waiting:
                folders = {os.path.dirname(path) for path in found.inodes} - searched
                searched |= folders
                waiting = dict.fromkeys(_beside(found, folders), "qcow2")
    return found


def _resolved(found: Images, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, form in files.items():
        path = os.path.realpath(name)
        if path != name:
            found.links[name] = path
        yield path, form


def _info(path: str, form: str) -> tuple[Image, str, str] | Diagnostic | None:
    """Return image, text and inode; what is wrong; None for what is no image of this host.

    Of block devices only those matter that hold an image format: of the others the kernel and LVM know all.
    """
    try:
        about = os.stat(path)
    except OSError:  # a chain that ends early, or a removable disk: the plan that needs it says so
        return None
    block = stat.S_ISBLK(about.st_mode) and form not in ("raw", "")
    if not stat.S_ISREG(about.st_mode) and not block:
        return None
    known = ("-f", _QEMU_NAMES.get(form, form)) if form else ()
    try:
        text = ask("qemu-img", "info", "-U", "--output=json", *known, path, patience=PATIENCE)
        (image,) = qemu_img.images(path, text, {})
    except Refused as refused:
        return _left_out(path, refused.diagnostics[0].detail)
    return image, text, "" if block else f"{about.st_dev}:{about.st_ino}"


def _beside(found: Images, folders: Iterable[str]) -> Iterator[str]:
    """Yield the qcow2 files in these folders, told by their first bytes."""
    for folder in sorted(folders):
        try:
            names = sorted(entry.path for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
        except OSError as error:
            found.left_out[folder] = _left_out(folder, f"its images cannot be listed: {error.strerror}")
            continue
        for name in names:
            if name in found.texts:
                continue
            head = _head(name)
            # qemu-img would open the data file, which any guest with a raw disk beside could name
            if head.startswith(_MAGIC) and len(head) == 80 and head[7] >= 3 and head[79] & _DATA_FILE:
                found.left_out[name] = _left_out(name, "it has an external data file")
            elif head.startswith(_MAGIC):
                yield name


def _head(path: str) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, 80)
    except OSError:
        return b""
    finally:
        os.close(file)


def _left_out(path: str, why: str) -> Diagnostic:
    return Diagnostic("an image was left out of the facts", f"{path}: {why}", severity="warning")
