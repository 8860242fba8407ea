"""The processes that matter, from /proc: device models, and every xl."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from executor.outputs import Running

# Where a domain's monitor writes to; logrotate may have given it another name since.
_LOG = re.compile(r"/var/log/xen/xl-(.+)\.log(?:\.[0-9]+)?(?: \(deleted\))?")
_CHARDEV = "socket,id=libxenstat-cmd,path="


def processes(device_models: Collection[int]) -> Iterator[Running]:
    """Yield the device models, by their process numbers, and every process that runs a program called xl."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            exe = os.readlink(f"/proc/{name}/exe")
        except OSError:  # it ended, or is a thread of the kernel
            if int(name) not in device_models:
                continue
            exe = ""
        wanted = int(name) in device_models
        if wanted or exe.removesuffix(" (deleted)").rpartition("/")[2] == "xl":
            process = _process(int(name), exe, wanted)
            if process:
                yield process


def stopped_monitors() -> Iterator[tuple[str, int]]:
    """Yield the domains whose xl monitor stands still, held with SIGSTOP, and its process number."""
    for process in processes(()):
        log = _LOG.fullmatch(process.stdout)
        try:
            state = Path(f"/proc/{process.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except (OSError, IndexError):  # it ended just now
            continue
        if log and state == "T":
            yield log[1], process.pid


def _process(pid: int, exe: str, device_model: bool) -> Running | None:
    folder = Path("/proc", str(pid))
    try:
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0") if device_model else []
    except OSError:  # it ended just now
        return None
    if fields[0] in "ZX":
        return None
    try:
        stdout = os.readlink(folder / "fd/1")
    except OSError:
        stdout = ""
    return Running(pid, int(fields[19]), exe, stdout, _monitor(words), "-incoming" in words)


def _monitor(words: list[str]) -> str:
    """Return the path of the second monitor as QEMU was told it (tools/libs/light/libxl_dm.c)."""
    said = next((word for word in words if word.startswith(_CHARDEV)), "")
    return said.removeprefix(_CHARDEV).partition(",")[0]
