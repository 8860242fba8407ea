"""The records that lie in stores, read without following anybody's link or waiting at anybody's pipe."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schema.diagnostic import Diagnostic, Refused

_LARGEST = 2**20  # bytes; a record of 100 disks is some 30 KB
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of a store. folder: where it lies. changed: nanoseconds since 1970."""

    folder: str
    name: str
    text: str
    changed: int


def kept(stores: Iterable[str]) -> list[Kept]:
    """Return every STORE/DOMAIN/SNAPSHOT/record.json and STORE/DOMAIN/current; a store that is not there holds none.

    Raises Refused, naming each file that is no regular file: a snapshot that were passed over would not be spared.
    """
    found: list[Kept] = []
    wrong: list[Diagnostic] = []
    for store in sorted({os.path.realpath(store) for store in stores}):
        for each in _store(store):
            if isinstance(each, Kept):
                found.append(each)
            else:
                wrong.append(each)
    if wrong:
        raise Refused(wrong)
    return found


def _store(store: str) -> Iterator[Kept | Diagnostic]:
    try:
        top = os.open(store, _FOLDER)
    except FileNotFoundError:
        return
    except OSError as error:
        yield _wrong(store, error.strerror)
        return
    try:
        for domain in sorted(os.listdir(top)):
            yield from _domain(f"{store}/{domain}", top, domain)
    finally:
        os.close(top)


def _domain(path: str, top: int, domain: str) -> Iterator[Kept | Diagnostic]:
    """Yield what lies in STORE/DOMAIN; what is not a folder there has nothing to do with snapshots."""
    for folder in _open_folder(path, top, domain):
        if isinstance(folder, Diagnostic):
            yield folder
            continue
        yield from _file(path, folder, "current")
        for snapshot in sorted(os.listdir(folder)):
            where = f"{path}/{snapshot}"
            for inner in _open_folder(where, folder, snapshot):
                yield from [inner] if isinstance(inner, Diagnostic) else _file(where, inner, "record.json")


def _open_folder(path: str, above: int, name: str) -> Iterator[int | Diagnostic]:
    """Yield the folder's descriptor, or what is wrong; nothing for a file, or one that went away just now."""
    try:
        mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode) and _is_folder(above, name):
            yield _wrong(path, "it is a symbolic link")
        if not stat.S_ISDIR(mode):
            return
        folder = os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        return
    except OSError as error:
        yield _wrong(path, error.strerror)
        return
    try:
        yield folder
    finally:
        os.close(folder)


def _is_folder(above: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=above).st_mode)
    except OSError:
        return False


def _file(path: str, folder: int, name: str) -> Iterator[Kept | Diagnostic]:
    try:
        file = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        yield _wrong(f"{path}/{name}", "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror)
        return
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            yield _wrong(f"{path}/{name}", "it is not a regular file")
        elif about.st_size > _LARGEST:
            yield _wrong(f"{path}/{name}", "it has more than 1 MiB")
        else:
            text = os.read(file, _LARGEST).decode("utf-8", "replace")
            yield Kept(path, name, text, about.st_mtime_ns)
    except OSError as error:
        yield _wrong(f"{path}/{name}", error.strerror)
    finally:
        os.close(file)


def _wrong(path: str, why: str | None) -> Diagnostic:
    return Diagnostic(
        "cannot read what the store holds", f"{path}: {why}", "put the file itself there, or move it out of the store"
    )
