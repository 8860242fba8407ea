"""A filesystem that shares blocks between files, in a file of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def sharing_blocks(folder: Path) -> Iterator[Path]:
    """Make an XFS of 320 MiB in a folder, mount it, and give an empty folder on it; only root can."""
    if os.geteuid():
        pytest.skip("only root can mount")
    image, mount = folder / "xfs", folder / "mnt"
    mount.mkdir()
    image.touch()
    os.truncate(image, 320 * 2**20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        (mount / "srv").mkdir()
        yield mount / "srv"
    finally:
        subprocess.run(["umount", str(mount)], check=True)
