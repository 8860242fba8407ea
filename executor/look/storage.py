"""What a host's filesystems and LVM say of themselves, each tool asked once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from executor.look.ask import ask, ask_in_part, find
from executor.look.sharing import shares_blocks
from executor.parse import filesystems, lvm
from planner.facts import Filesystem
from schema.diagnostic import Diagnostic, Refused


@dataclass(frozen=True, slots=True)
class Storage:
    """The texts, "" for LVM's on a host without it; reflink: mount points; volumes: the LVs' paths by device number."""

    findmnt: str
    df: str
    reflink: tuple[str, ...]
    lvs: str
    vgs: str
    lvm_version: str
    volumes: dict[int, str]
    remarks: tuple[Diagnostic, ...]

    def named(self, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield (path, name that LVM gives it) for other names of logical volumes: udev and dm have several more."""
        for path in paths:
            name = self.volumes.get(_device(path), path)
            if name != path:
                yield path, name


def storage() -> Storage:
    """Return what there is. Raises Refused if a tool that is there fails, or prints what cannot be read."""
    findmnt, df, troubles, mounted = _mounted()
    failures = [troubles]
    lvs = vgs = version = ""
    if find("lvs"):
        lvs, trouble = ask_in_part(*lvm.LVS.split(), begins="{")
        vgs, other = ask_in_part(*lvm.VGS.split(), begins="{")
        version, _ = ask_in_part(*lvm.VERSION.split(), begins="LVM version")  # it fails without device-mapper
        failures += [trouble, other]
    return Storage(
        findmnt=findmnt,
        df=df,
        reflink=tuple(each.mount for each in mounted if shares_blocks(each.mount, each.type)),
        lvs=lvs,
        vgs=vgs,
        lvm_version=version,
        volumes={number: path for each in lvm.volumes(lvs) if (number := _device(path := lvm.path(each)))},
        remarks=tuple(
            Diagnostic("a program of the host told only a part", failure, severity="warning")
            for failure in failures
            if failure
        ),
    )


def _mounted(attempts: int = 3) -> tuple[str, str, str, list[Filesystem]]:
    """Return what findmnt and df print, df's complaints, and the filesystems that both name.

    Again if they do not fit together: a filesystem that somebody mounts between the two is in df's answer alone.
    """
    findmnt = ask(*filesystems.FINDMNT.split())
    # A network filesystem whose server is gone makes df fail for that one alone, or hang; findmnt does not look.
    df, troubles = ask_in_part(*filesystems.DF.split(), begins="Filesystem")
    try:
        return findmnt, df, troubles, list(filesystems.filesystems(findmnt, df, ()))
    except Refused:
        if attempts > 1:
            return _mounted(attempts - 1)
        raise


def _device(path: str) -> int:
    """Return the number of a block device, 0 for what is none."""
    try:
        about = os.stat(path)
    except OSError:
        return 0
    return about.st_rdev if stat.S_ISBLK(about.st_mode) else 0
