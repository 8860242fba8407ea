"""A filesystem that shares blocks between files, for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture(scope="session")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a filesystem")
    where = tmp_path_factory.mktemp("xfs")
    (where / "mnt").mkdir()
    with (where / "disk").open("wb") as disk:
        disk.truncate(320 * 2**20)  # mkfs.xfs wants 300 MiB
    run("mkfs.xfs", "-q", "-m", "reflink=1", str(where / "disk"))
    run("mount", "-o", "loop", str(where / "disk"), str(where / "mnt"))
    try:
        yield where / "mnt"
    finally:
        run("umount", str(where / "mnt"))


@pytest.fixture
def xfs(mounted: Path) -> Path:
    """A new folder on an XFS with reflinks."""
    return Path(tempfile.mkdtemp(dir=mounted))
