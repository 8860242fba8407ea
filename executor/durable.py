"""Small files and names that are still there after a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: str, text: str) -> None:
    """Write a new file, mode 0600, and make it durable."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(file, "wb") as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
        stream.flush()
        os.fsync(file)


def rename(source: str, target: str) -> None:
    """Rename over what is there, and make it durable. Two names of one file are left as they are (rename(2))."""
    if not (os.path.exists(target) and os.path.samefile(source, target)):
        os.rename(source, target)
    for folder in dict.fromkeys((Path(target).parent, Path(source).parent)):
        sync_folder(folder)


def sync_folder(path: str | Path) -> None:
    """Make durable which names a folder holds."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
