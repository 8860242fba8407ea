"""The QEMU that runs a stand-in domain: how it is started, asked, and ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.sandbox import keeper
from tests.sandbox.config import Config, backend

QEMU = "qemu-system-x86_64"
MONITORS = ("libxl", "libxenstat")  # the public ones, as libxl names them (light/libxl_dm.c)
PRIVATE = ("xl", "test")  # one for our xl, one for tests: what holds a public monitor does not hold these up
_DEADLINE = 30.0


class Trouble(Exception):
    """QEMU did not start, or did not do what it was asked; the message says why."""


def stat(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and start time in clock ticks; None if it is gone or nobody's any more."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (fields[0], int(fields[19]))


def end(pid: int, *signals: signal.Signals, reaped: bool = False) -> None:
    """End a process: the next signal is sent when it is still there 10 seconds after the one before.

    reaped: come back only when its parent has taken note of its end, as that of QEMU does.
    """
    for number in signals:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            if not Path("/proc", str(pid)).exists() or (stat(pid) is None and not reaped):
                return
            time.sleep(0.005)


def start(root: Path, folder: Path, domid: int, config: Config, device: int | None) -> int:
    """Start the QEMU of a domain, its guest held before its first instruction, and return its process number.

    folder: the domain's own. device: the descriptor of a file with the state that it is to take over. Raises Trouble.
    """
    public = {name: root / "run" / f"qmp-{name}-{domid}" for name in MONITORS if served(config)}
    incoming = ("-incoming", "defer") if device is not None else ()
    doors = {path: folder / name for name, path in public.items()}
    argv = [*_argv(folder, config, public), *incoming]
    kept = keeper.keep(argv, folder / "qemu.log", doors, () if device is None else (device,))
    try:
        with Monitor(folder / "xl", kept.pid) as monitor:
            if device is not None:
                monitor("migrate-incoming", uri=f"fd:{device}")
                monitor.settle("inmigrate")
        kept.open_doors()
    except (Trouble, OSError) as error:
        end(kept.pid, signal.SIGKILL)
        raise Trouble((folder / "qemu.log").read_text().strip() or str(error)) from None
    finally:
        kept.close()
    return kept.pid


def served(config: Config) -> bool:
    """Whether the domain has a device model for all to see; one whose disks are all phy has none."""
    return config["c_info"]["type"] == "hvm" or any(backend(disk) == "qdisk" for disk in config["disks"])


def _argv(folder: Path, config: Config, public: dict[str, Path]) -> Iterator[str]:
    mebibytes = config["b_info"]["target_memkb"] // 1024
    memory = f"memory-backend-file,id=ram,size={mebibytes}M,mem-path={folder}/ram,share=on"
    # What a Xen machine says too, so that QEMU's state without memory can be saved and loaded (QEMU's hw/xen/xen-hvm*).
    machine = "pc,memory-backend=ram,usb=off,hpet=off,suppress-vmdesc=on"
    yield from (QEMU, "-name", config["c_info"]["name"], "-nodefaults", "-no-user-config", "-display", "none")
    yield from ("-S", "-no-shutdown", "-accel", "tcg,thread=single,tb-size=8", "-m", str(mebibytes))
    yield from ("-object", memory, "-machine", machine, "-global", "migration.send-configuration=off")
    for name, path in (*public.items(), *((name, folder / name) for name in PRIVATE)):
        yield from ("-chardev", f"socket,id={name}-cmd,path={path},server=on,wait=off")
        yield from ("-mon", f"chardev={name}-cmd,mode=control")
    for index, disk in enumerate(config["disks"]):
        writable = bool(disk.get("readwrite"))
        qdisk = backend(disk) == "qdisk"
        # Named as xen-block names them, and without locks (QEMU's hw/block/xen-block.c). No QEMU serves a phy disk on a
        # real host; here one must, and its name says that it is none of anybody's business.
        node = f"{disk['vdev']}-{disk['format']}" if qdisk else f"phy-{disk['vdev']}"
        file = {"driver": "file", "filename": disk["pdev_path"], "locking": "off", "aio": "threads"}
        image = {"driver": disk["format"], "node-name": node, "read-only": not writable, "discard": "unmap"}
        yield from ("-blockdev", json.dumps({**image, "file": file}))
        name = disk["vdev"] if qdisk else node
        yield from ("-device", f"virtio-blk-pci,id={name},drive={node},bootindex={index}")


class Monitor:
    """A connection to a monitor of a QEMU, waited for if that has only just been started (`pid` its process)."""

    def __init__(self, path: Path, pid: int = 0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_DEADLINE)
        limit = time.monotonic() + _DEADLINE
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                if not pid or stat(pid) is None or time.monotonic() > limit:
                    self._socket.close()
                    raise Trouble(f"no answer from QEMU: {error}") from None
                time.sleep(0.003)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._read()
        self("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        while True:
            try:
                line = self._lines.readline()
            except OSError as error:
                raise Trouble(f"no answer from QEMU: {error}") from None
            if not line:
                raise Trouble("QEMU hung up")
            message: dict[str, Any] = json.loads(line)
            if "event" not in message:
                return message

    def __call__(self, execute: str, **arguments: object) -> Any:
        """Send one request and return what it returns; raises Trouble with QEMU's words."""
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            self._socket.sendall(json.dumps({"execute": execute, "arguments": named}).encode() + b"\n")
        except OSError as error:
            raise Trouble(f"no answer from QEMU: {error}") from None
        message = self._read()
        if "error" in message:
            raise Trouble(message["error"]["desc"])
        return message["return"]

    def status(self) -> str:
        return str(self("query-status")["status"])

    def settle(self, passing: str) -> None:
        """Wait while the guest's state is the passing one; raises Trouble when QEMU ends meanwhile."""
        limit = time.monotonic() + _DEADLINE
        while self.status() == passing:
            if time.monotonic() > limit:
                raise Trouble(f"still {passing}")
            time.sleep(0.003)
