"""A look into a guest's memory and disks, whether it runs or not, and into what its snapshots hold."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from planner.facts import Record
from tests.sandbox import guest, image, qemu
from tests.sandbox.domains import Domain
from tests.sandbox.guest import Instant, Mark


def mark(domain: Domain) -> Mark | None:
    """Read the guest's page at whatever instant; None while the BIOS is still at work."""
    with (domain.folder / "ram").open("rb") as ram:
        ram.seek(guest.PAGE)
        return guest.mark(ram.read(64))


@contextmanager
def still(domain: Domain) -> Iterator[qemu.Monitor]:
    """Have the guest stand still, and yield its monitor; it is let go again if it ran."""
    with qemu.Monitor(domain.folder / "test") as monitor:
        running = monitor.status() == "running"
        if running:
            monitor("stop")
        try:
            yield monitor
        finally:
            if running:
                monitor("cont")


def instant(domain: Domain) -> Instant:
    """Read memory and disks, as the guest itself would, while it stands still."""
    with still(domain) as monitor:
        said = {vdev: _sector(domain, monitor, node) for vdev, node in _roots(monitor)}
        now = mark(domain)
        assert now, "the guest does not count yet"
        return Instant(now, said)


def _sector(domain: Domain, monitor: qemu.Monitor, node: str) -> int:
    log = domain.folder / "qemu.log"
    before = log.stat().st_size
    monitor("human-monitor-command", command_line=f'qemu-io {node} "read -v {guest.SECTOR} 16"')
    shown = log.read_text()[before:]
    found = re.search(r"^00000200:  ((?:[0-9a-f]{2} ){16})", shown, re.MULTILINE)
    assert found, shown
    return guest.counter(bytes.fromhex(found[1]))


def _roots(monitor: qemu.Monitor) -> Iterator[tuple[str, str]]:
    """Yield vdev and topmost node of each disk."""
    for drive in monitor("query-block"):
        device = drive["qdev"].removeprefix("/machine/peripheral/").partition("/")[0]
        yield device.removeprefix("phy-"), drive["inserted"]["node-name"]


@contextmanager
def flushed(domain: Domain) -> Iterator[None]:
    """Let QEMU write all it holds back, so that images can be read by their paths. The guest stands still meanwhile:
    QEMU would hold back the next cluster that it allocates."""
    with still(domain) as monitor:
        for _, node in _roots(monitor):
            monitor("human-monitor-command", command_line=f"qemu-io {node} flush")
        yield


def content(path: Path, tag: str = "") -> bytes:
    """Return what a guest would read of an image, or of an internal snapshot in it. One that is open for writing must
    be flushed."""
    with path.open("rb") as file:
        form = "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    at = ("-l", f"snapshot.name={tag}") if tag else ()
    with tempfile.NamedTemporaryFile() as plain:
        run("qemu-img", "convert", "-U", *at, "-f", form, "-O", "raw", str(path), plain.name)
        return Path(plain.name).read_bytes()


def kept(record: Record) -> Instant:
    """Return the instant that a snapshot holds: of its memory image, and of what it keeps of each disk."""
    with open(record.memory, "rb") as file:
        head = image.read_head(file)
        size = int(json.loads(head.config)["b_info"]["target_memkb"]) * 1024
        memory, _ = image.read_stream(file, size)
    now = guest.mark(memory[guest.PAGE : guest.PAGE + 64])
    assert now
    disks: dict[str, int | None] = {}
    for held in record.disks:
        disks[held.vdev] = None
        if held.method != "exclude":
            whole = content(Path(held.holder), tag=held.tag if held.method == "internal" else "")
            assert not (wrong := guest.damage(whole)), f"{held.vdev}: {wrong}"
            disks[held.vdev] = guest.counter(whole[guest.SECTOR :])
    return Instant(now, disks)


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
