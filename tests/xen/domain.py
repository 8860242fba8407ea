"""One domain of a real host: its disks, its configuration, and what its guest says of them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tests.xen.dom0 import Dom0, Failed

FOLDER = "/srv/vm"
SIZE = "16M"
# What a disk can be: how it is made, its image format, the backend asked for, the path it gets.
KINDS = {
    "qcow2": ("qemu-img create -q -f qcow2 {path} {size}", "qcow2", "", FOLDER + "/{name}-{vdev}.qcow2"),
    "qdisk": ("truncate -s {size} {path}", "raw", "qdisk", FOLDER + "/{name}-{vdev}.raw"),
    "loop": ("truncate -s {size} {path}", "raw", "", FOLDER + "/{name}-{vdev}.raw"),
    "xfs": ("truncate -s {size} {path}", "raw", "", "/srv/xfs/{name}-{vdev}.raw"),
    "swap": ("truncate -s {size} {path}", "raw", "qdisk", FOLDER + "/{name}-{vdev}.raw"),  # the guest leaves it alone
    "thick": ("lvcreate -qq -y -Wn -Zn -L {size} -n {name}-{vdev} vg0", "raw", "", "/dev/vg0/{name}-{vdev}"),
    "thin": ("lvcreate -qq -y -V {size} --thinpool pool -n {name}-{vdev} vg0", "raw", "", "/dev/vg0/{name}-{vdev}"),
}
EMULATED = "hvm-ide"  # an HVM domain whose guest has no PV drivers
_LINE = re.compile(r"^G life=(\w+) start=(\d+) n=(\d+) disks=(\d+) torn=(\d+) sum=(\w+) gap=(\d+)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Said:
    """A line of the guest. life: which start of the kernel it is. start: the count its disks had then. count: of the
    last round that all disks have. torn: how often disks and memory were not of one instant. gap: the longest it
    stood still since it last said something, milliseconds."""

    life: str
    start: int
    count: int
    disks: int
    torn: int
    sum: str
    gap: int


class Domain:
    """A domain, made but not started. disks: vdev -> one of KINDS, those that count first. kind: pv, pvh,
    hvm or EMULATED."""

    def __init__(self, dom0: Dom0, name: str, kind: str, disks: Mapping[str, str]) -> None:
        self.dom0, self.name, self.kind, self.disks = dom0, name, kind, dict(disks)
        self.log = f"/var/log/xen/console/guest-{name}.log"
        self.paths = {vdev: KINDS[what][3].format(name=name, vdev=vdev) for vdev, what in disks.items()}
        specs, made = [], []
        for vdev, what in disks.items():
            make, form, backend, _ = KINDS[what]
            made.append(make.format(name=name, vdev=vdev, path=self.paths[vdev], size=SIZE))
            served = f"backendtype={backend}, " if backend else ""
            specs.append(f"format={form}, vdev={vdev}, {served}access=rw, target={self.paths[vdev]}")
        dom0.ask(" && ".join(made))
        self.counting = sum(what != "swap" for what in disks.values())
        extra = f"console=hvc0 quiet disks={self.counting}" + (" xen_emul_unplug=never" if kind == EMULATED else "")
        said: dict[str, object] = {"name": name, "type": kind.partition("-")[0], "kernel": f"{FOLDER}/kernel"}
        said |= {"ramdisk": f"{FOLDER}/initrd", "extra": extra, "memory": 128, "vcpus": 1, "tsc_mode": "native"}
        said |= {"disk": specs, "on_crash": "preserve"}
        if "hvm" in kind:
            said |= {"vga": "none", "vnc": 0, "nographic": 1, "serial": "pty"}
        self.cfg = f"{FOLDER}/{name}.cfg"
        dom0.put(self.cfg, "".join(f"{key} = {value!r}\n" for key, value in said.items()))

    def create(self) -> Said:
        """Start it; return what its guest says first."""
        before = self.lines()
        self.dom0.ask(f"xl create {self.cfg}")
        return self.next(len(before))

    def again(self, command: str = "", *, at_least: int | None = None) -> Said:
        """Start it from its configuration, as a host does after a power cut, or let a command start its guest anew.
        at_least: what the disks must say, if not what the guest has said last."""
        lines = self.lines()
        self.dom0.ask(command or f"xl create {self.cfg}")
        limit = time.monotonic() + 240
        while (first := self.next(len(lines))).life == lines[-1].life:
            lines = self.lines()
            assert time.monotonic() < limit, f"{self.name} is not started anew"
        assert first.start >= (lines[-1].count if at_least is None else at_least), "what had been written was lost"
        return self.whole(lines=4)

    def lines(self) -> list[Said]:
        """Return all that its guests ever said, of this domain and of those that had its name before."""
        text = self.dom0.ask(f"cat {self.log}", status=None)
        return [
            Said(life, int(start), int(count), int(disks), int(torn), whole, int(gap))
            for life, start, count, disks, torn, whole, gap in _LINE.findall(text)
        ]

    def next(self, after: int | None = None, lines: int = 1, limit: float = 240) -> Said:
        """Wait until the guest has said so many lines more than `after`, or than by now; return the last."""
        have = len(self.lines()) if after is None else after
        ends = time.monotonic() + limit
        while len(said := self.lines()) < have + lines:
            if time.monotonic() > ends:
                tail = self.dom0.ask(f"tail -n 5 {self.log}; xl list", status=None)
                raise Failed(f"the guest of {self.name} says nothing for {limit:.0f} s\n{tail}")
            time.sleep(0.3)
        return said[-1]

    def whole(self, lines: int = 2) -> Said:
        """Hold that the guest runs on, with all its disks, and that they and its memory are of one instant."""
        said = self.next(lines=lines)
        odd = self.dom0.ask(f"grep -a '^G ' {self.log} | grep -av '^G life=' | tail -n 5", status=None)
        assert (said.disks, said.torn, said.sum) == (self.counting, 0, "ok"), f"{said}\n{odd}"
        return said

    def domid(self) -> int:
        return int(self.dom0.ask(f"xl domid {self.name}"))
