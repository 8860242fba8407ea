"""The domains of a stand-in host: a folder each, with its configuration, its memory and what xl has done to it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox import guest, qemu
from tests.sandbox.config import Config

LOGS = "/var/log/xen"  # where xl's own monitor says what it does


class Taken(Exception):
    """Another domain has this name; `domid` is the number that was lost to finding that out."""

    def __init__(self, domid: int) -> None:
        super().__init__()
        self.domid = domid


@dataclass(slots=True)
class Domain:
    """One domain. held: "" while its guest may run, "paused" or "suspended" while it may not.

    device_model, monitor: its QEMU, and what stands in for the daemon that `xl create` leaves behind, each as process
    number and start time; empty if there is none. source: the file that it was created from.
    """

    root: Path
    domid: int
    config: Config
    held: str = "paused"
    device_model: tuple[int, ...] = ()
    monitor: tuple[int, ...] = ()
    source: str = ""

    @property
    def folder(self) -> Path:
        return self.root / "domains" / str(self.domid)

    @property
    def name(self) -> str:
        return str(self.config["c_info"]["name"])

    @property
    def memory(self) -> int:
        """In MiB."""
        return int(self.config["b_info"]["target_memkb"]) // 1024

    def save(self) -> None:
        """Keep what is known; whoever reads meanwhile sees the old or the new."""
        said = {key: getattr(self, key) for key in ("domid", "config", "held", "device_model", "monitor", "source")}
        part = self.folder / f"state.{os.getpid()}"
        part.write_text(json.dumps(said))
        part.rename(self.folder / "state")

    def hold(self, how: str) -> None:
        self.held = how
        self.save()

    def clock(self, event: str) -> None:
        """Note when the guest was stopped or let go, for those who measure."""
        with (self.root / "clock").open("a") as file:
            file.write(f"{event} {time.monotonic()}\n")

    def ask(self) -> qemu.Monitor:
        """Connect to its QEMU; raises qemu.Trouble. xl uses libxl's own monitor for HVM guests alone."""
        public = self.root / "run" / f"qmp-libxl-{self.domid}"
        return qemu.Monitor(public if self.config["c_info"]["type"] == "hvm" else self.folder / "xl")

    def word(self, address: int, value: int | None = None) -> int:
        """Read a word of the guest's memory, or write it first."""
        try:
            with (self.folder / "ram").open("r+b" if value is not None else "rb") as ram:
                ram.seek(address)
                if value is not None:
                    ram.write(struct.pack("<I", value))
                    ram.seek(address)
                return int(struct.unpack("<I", ram.read(4))[0])
        except (OSError, struct.error):  # it has none yet
            return 0

    @property
    def said(self) -> int:
        """What the guest said before it stopped counting, 0 while it has not."""
        return self.word(guest.SAID) if self.word(guest.PAGE) == guest.MAGIC else 0

    def flags(self) -> str:
        """Return the six letters of `xl list`. A guest whose QEMU is gone is still a domain to Xen."""
        if self.said:
            return "---s" + {guest.OFF: "-", guest.CRASH: "c", guest.REBOOT: "r"}[self.said] + "-"
        return {"paused": "--p---", "suspended": "-b-ss-"}.get(self.held, "-b----")


def domains(root: Path) -> Iterator[Domain]:
    for number in sorted(int(name) for name in os.listdir(root / "domains")):
        there = find(root, str(number))
        if there:
            yield there


def find(root: Path, who: str) -> Domain | None:
    """Return the domain of a number, or of a name."""
    if who.isdecimal():
        try:
            said: dict[str, Any] = json.loads((root / "domains" / who / "state").read_text())
        except OSError:
            return None
        return Domain(root, **{**said, "device_model": tuple(said["device_model"]), "monitor": tuple(said["monitor"])})
    return next((each for each in domains(root) if each.name == who), None)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    with (root / "domains.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(root: Path, config: Config, memory: bytes = b"", device: bytes = b"") -> Domain:
    """Make a domain, paused, from nothing or from a memory and QEMU's state; raises Taken, or qemu.Trouble."""
    with _alone(root):
        count = root / "domid-history"
        domid = int(count.read_text()) + 1 if count.exists() else 1
        count.write_text(str(domid))
        if find(root, config["c_info"]["name"]):
            raise Taken(domid)
        domain = Domain(root, domid, config)
        domain.folder.mkdir()
        domain.save()
    try:
        if device:
            (domain.folder / "ram").write_bytes(memory)
            with (domain.folder / "device").open("w+b") as file:
                file.write(device)
                file.flush()
                file.seek(0)
                pid = qemu.start(root, domain.folder, domid, config, file.fileno())
        else:
            pid = qemu.start(root, domain.folder, domid, config, None)
    except qemu.Trouble:
        remove(domain)
        raise
    domain.device_model = process(pid)
    domain.save()
    return domain


def process(pid: int) -> tuple[int, ...]:
    there = qemu.stat(pid)
    return (pid, there[1]) if there else ()


def alive(who: tuple[int, ...]) -> str:
    """Return the state letter of a process, "" if it has ended."""
    there = qemu.stat(who[0]) if who else None
    return there[0] if there and there[1] == who[1] else ""


def remove(domain: Domain) -> None:
    """End a domain and all that belongs to it; libxl sends its QEMU a SIGHUP (light/libxl_dm.c)."""
    if alive(domain.monitor):
        qemu.end(domain.monitor[0], signal.SIGKILL)
    if alive(domain.device_model):
        qemu.end(domain.device_model[0], signal.SIGHUP, signal.SIGKILL, reaped=True)
    for name in qemu.MONITORS:
        (domain.root / "run" / f"qmp-{name}-{domain.domid}").unlink(missing_ok=True)
    with _alone(domain.root):
        (domain.folder / "state").unlink(missing_ok=True)
        shutil.rmtree(domain.folder)


def watch(domain: Domain) -> None:
    """Leave a process behind like xl's own monitor: a program `xl` whose output is the domain's log.

    It is a copy of sleep(1) and does nothing; what the daemon would do, our xl does where that is still there. With a
    mount of its own it has its log where a real one has it, and the host's own folder stays as it is.
    """
    log = f"xl-{domain.name}.log"
    program = str(domain.root / "lib" / "xl")
    here = f'exec "$0" infinity >>"{domain.root}/log/{log}" 2>&1'
    mount = f"mount -t tmpfs tmpfs /var/log && mkdir {LOGS} && mount --bind {domain.root}/log {LOGS}"
    there = f'{mount} && exec "$0" infinity >>{LOGS}/{log} 2>&1'
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", there, program]
    for argv in (alone, ["sh", "-c", here, program]):
        domain.monitor = process(_started(argv, program))
        if domain.monitor:
            domain.save()
            return


def _started(argv: list[str], program: str) -> int:
    """Start what becomes `program`, and return its process number when it has; 0 if it ends before."""
    nothing = subprocess.DEVNULL
    started = subprocess.Popen(argv, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    limit = time.monotonic() + 10
    while time.monotonic() < limit and started.poll() is None:
        try:
            if os.readlink(f"/proc/{started.pid}/exe") == program:
                return started.pid
        except OSError:  # it ended just now
            pass
        time.sleep(0.002)
    return 0
