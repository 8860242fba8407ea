"""One domain of a real host: its disks, its configuration, and what its guest says of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

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
    # What a disk that was removed has left in the volume group is no part of a new one.
    "thick": (
        "lvcreate -qq -y -Wn -Zn -L {size} -n {name}-{vdev} vg0 && shred -n 0 -z {path}",
        "raw",
        "",
        "/dev/vg0/{name}-{vdev}",
    ),
    "thin": ("lvcreate -qq -y -V {size} --thinpool pool -n {name}-{vdev} vg0", "raw", "", "/dev/vg0/{name}-{vdev}"),
}
KINDS["scratch"] = KINDS["thick"]  # the guest leaves it alone
KINDS["files"] = (f"{KINDS['thin'][0]} && mke2fs -q -t ext4 {{path}}", *KINDS["thin"][1:])  # the guest has it mounted
EMULATED = "hvm-ide"  # an HVM domain whose guest has no PV drivers
_LINE = re.compile(
    r"^G life=(\w+) start=(\d+) n=(\d+) disks=(\d+) torn=(\d+) sum=(\w+) files=(\d+) gap=(\d+)\r?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Said:
    """A line of the guest. life: which start of the kernel it is. start: the count its disks had then. count: of the
    last round that all disks have. torn: how often disks and memory were not of one instant. files: how many it has
    written. gap: the longest it stood still since it last said something, milliseconds."""

    life: str
    start: int
    count: int
    disks: int
    torn: int
    sum: str
    files: int
    gap: int


class Domain:
    """A domain, made but not started. disks: vdev -> one of KINDS, those that count first. kind: pv, pvh,
    hvm or EMULATED. dirty: MiB of memory that its guest changes a second, of 3/8 of all it has. memory: MiB."""

    def __init__(
        self, dom0: Dom0, name: str, kind: str, disks: Mapping[str, str], *, dirty: int = 0, memory: int = 128
    ) -> None:
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
        self.counting = sum(what not in ("swap", "scratch", "files") for what in disks.values())
        words = [
            "console=hvc0",
            "quiet",
            f"disks={self.counting}",
            *(["xen_emul_unplug=never"] if kind == EMULATED else []),
        ]
        words += [f"files=/dev/{vdev}" for vdev, what in disks.items() if what == "files"]
        extra = " ".join([*words, *([f"dirty={dirty}"] if dirty else [])])
        said: dict[str, object] = {"name": name, "type": kind.partition("-")[0], "kernel": f"{FOLDER}/kernel"}
        said |= {"ramdisk": f"{FOLDER}/initrd", "extra": extra, "memory": memory, "vcpus": 1, "tsc_mode": "native"}
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

    def shut_down(self) -> None:
        """Have the guest end, and wait until its xl monitor has cleaned up: `xl shutdown -w` does not."""
        gone = f"! xl domid {self.name} >&- 2>&-"
        self.dom0.ask(
            f"xl shutdown -w {self.name}; for each in $(seq 200); do {gone} && break; sleep 0.3; done; {gone}"
        )

    def lines(self) -> list[Said]:
        """Return all that its guests ever said, of this domain and of those that had its name before."""
        return [
            Said(life, int(start), int(count), int(disks), int(torn), whole, int(files), int(gap))
            for life, start, count, disks, torn, whole, files, gap in _LINE.findall(self.dom0.follow(self.log))
        ]

    def until(self, right: Callable[[list[Said]], Said | None], limit: float = 240) -> Said:
        """Wait until there is a line among all that is right; return it."""
        ends = time.monotonic() + limit
        while (found := right(self.lines())) is None:
            if time.monotonic() > ends:
                tail = self.dom0.ask(f"tail -n 5 {self.log}; xl list", status=None)
                raise Failed(f"the guest of {self.name} does not say what it should for {limit:.0f} s\n{tail}")
            time.sleep(0.2)
        return found

    def next(self, after: int | None = None, lines: int = 1) -> Said:
        """Wait until the guest has said so many lines more than `after`, or than by now; return the last."""
        have = len(self.lines()) if after is None else after
        return self.until(lambda said: said[-1] if len(said) >= have + lines else None)

    def fell(self, after: int) -> Said:
        """Wait until the guest has said, since `after` lines, that it counts from less than it had come to; return that
        line."""
        return self.until(
            lambda said: next((now for last, now in pairwise(said[after - 1 :]) if now.count < last.count), None)
        )

    def whole(self, lines: int = 2) -> Said:
        """Hold that the guest runs on, with all its disks, and that they and its memory are of one instant."""
        said = self.next(lines=lines)
        odd = [line for line in self.dom0.follow(self.log).splitlines() if re.match("G (?!life=)", line)]
        assert (said.disks, said.torn, said.sum) == (self.counting, 0, "ok"), f"{said}\n{odd[-5:]}"
        return said

    def domid(self) -> int:
        return int(self.dom0.ask(f"xl domid {self.name}"))

    def remove(self) -> None:
        """Remove its disks and its configuration, once it has ended."""
        for path in self.paths.values():
            self.dom0.ask(f"lvremove -qq -y {path}" if path.startswith("/dev/") else f"rm {path}")
        self.dom0.ask(f"rm {self.cfg}")
