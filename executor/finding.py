"""What a look at one thing that a snapshot needs comes to, and how a file is opened for such a look."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal

Outcome = Literal["fine", "lost", "altered", "unchecked"]
OUTCOMES: tuple[Outcome, ...] = ("fine", "lost", "altered", "unchecked")

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# The medium no longer gives the data back, whoever asks.
_GONE = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)
_KINDS = {
    stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device", stat.S_IFCHR: "a character device",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing. what: `record`, `current`, `memory` or a disk's vdev; path: the file or volume.

    outcome: `fine`; `lost`, it is not there or cannot be read; `altered`, it is not what was written; `unchecked`, it
    could not be looked at, and the detail says why. snapshot: "" for what belongs to the domain.
    """

    domain: str
    snapshot: str
    what: str
    path: str
    outcome: Outcome
    detail: str


class NotFine(Exception):
    """Something that a snapshot needs is not as it should be; the text says how."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


class Odd(Exception):
    """Something else lies where a regular file belongs; the text says what."""


def regular(path: str, folder: int | None = None) -> BinaryIO:
    """Open a regular file for reading: no link is followed at its end, and nothing else is so much as opened.

    folder: descriptor of the folder that a relative path begins in. Raises Odd, and OSError.
    """
    if "\0" in path:
        raise Odd("a name with a NUL is no file's")
    mode = os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode
    if not stat.S_ISREG(mode):
        raise Odd(f"{_KINDS.get(stat.S_IFMT(mode), 'no regular file')} is in its place")
    file = os.fdopen(os.open(path, _FILE, dir_fd=folder), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Odd("it is being replaced")
    return file


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a regular file that a snapshot needs; raises NotFine, also for what goes wrong while it is read."""
    if not path.startswith("/"):
        raise NotFine("altered", f"{path or 'an empty name'} is not an absolute path")
    try:
        with regular(path) as file:
            yield file
    except Odd as odd:
        raise NotFine("altered", f"{path}: {odd}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise NotFine("lost", f"{path} is not there") from None
    except OSError as error:
        raise NotFine("lost" if error.errno in _GONE else "unchecked", f"{path}: {error.strerror}") from None
