"""What is done to a domain as a whole: confirm it, stop it with its memory written, let it run again, restore it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from posixpath import dirname

from planner.commands import Capture, Command, Release, Run, Seal, at_least, literal
from planner.facts import Process
from planner.operation import Operation

# The state column of `xl list` (tools/xl/xl_info.c): running, blocked, paused, shut down, reason, dying.
RUNS = "[r-][b-]----"
HELD = "[r-][b-]p---"
# Neither paused nor suspended: the guest was let go, whatever it has done since.
LET_GO = "[r-][b-]-(--|s[rcwS-])-"


def listed(name: str, domid: int | None, uuid: str, state: str, within: int = 0) -> Run:
    """Return the command that succeeds while `xl list -v` shows this very domain in this state.

    `xl unpause` and `xl restore` exit 0 whatever libxl says (tools/xl/xl_vmcontrol.c): only the list proves anything.
    """
    number = "[0-9]+" if domid is None else str(domid)
    row = f"^{literal(name)} +{number} +[0-9]+ +[0-9]+ +{state} +[0-9.]+ +{uuid}( |$)"
    return Run(("xl", "list", "-v"), prints=row, within=within)


def absent(*paths: str) -> Iterator[Command]:
    """Yield checks that nothing, not even a dangling link, has one of these names."""
    for path in paths:
        yield Run(("test", "!", "-e", path))
        yield Run(("test", "!", "-L", path))


def decompress(image: str) -> tuple[str, ...]:
    """Return the argv of the program that prints what a compressed memory image holds."""
    return ("zstd", "-d", "-c", "-q", "--", image)


def restore(image: str, *, compressed: bool = False) -> Run:
    """Return the command that brings a domain back from a memory image.

    xl opens /dev/stdin like any file, and reads it from its start to its end (tools/xl/xl_vmcontrol.c).
    """
    if not compressed:
        return Run(("xl", "restore", "--", image))
    return Run(("xl", "restore", "--", "/dev/stdin"), input=decompress(image))


@dataclass(frozen=True, slots=True)
class Confirm(Operation):
    """Prove that the domain is the one that was observed, with the disks that it had then.

    domid: None for a domain that is off. images: (path, "device:inode"). volumes: ("vg/lv", UUID).
    """

    effect = "check"
    name: str
    domid: int | None
    uuid: str
    state: str = RUNS
    images: tuple[tuple[str, str], ...] = ()
    volumes: tuple[tuple[str, str], ...] = ()

    def title(self) -> str:
        what = "off" if self.domid is None else f"domain {self.domid}"
        return f"confirm that {self.name} is still {what}, with the disks that were seen"

    def why(self) -> str:
        if self.domid is None:
            return "QEMU opens Xen disks without image locks: only the list of domains says that an image is free"
        return "a domain that was restarted since has another number and other node names: plan again"

    def checks(self) -> Iterator[Command]:
        if self.domid is None:
            yield Run(("xl", "list", "-v"), lacks=f"^{literal(self.name)} |{self.uuid}")
        else:
            yield listed(self.name, self.domid, self.uuid, self.state)
        for path, inode in self.images:
            yield Run(("stat", "-c", "%d:%i", "--", path), prints=f"^{inode}$")
        for volume, uuid in self.volumes:
            yield Run(("lvs", "--noheadings", "-o", "lv_uuid", "--", volume), prints=f"^ *{uuid} *$")

    def do(self) -> Iterator[Command]:
        yield from ()


@dataclass(frozen=True, slots=True)
class ConfirmSpace(Operation):
    """Prove that there is still room; needs: (place, kind, bytes), kinds as in `planner.plan.Space`."""

    effect = "check"
    needs: tuple[tuple[str, str, int], ...]

    def title(self) -> str:
        return "confirm that there is room"

    def why(self) -> str:
        return ", ".join(f"{-(-size // 2**20)} MiB in {place}" for place, _, size in self.needs)

    def subject(self) -> str:
        return "storage"

    def checks(self) -> Iterator[Command]:
        for place, kind, size in self.needs:
            if kind == "filesystem":
                yield Run(("df", "-B1", "--output=avail", "--", place), prints=f"^ *{at_least(size)}$")
            elif kind == "volume group":
                argv = ("vgs", "--noheadings", "--units", "b", "--nosuffix", "-o", "vg_free", "--", place)
                yield Run(argv, prints=f"^ *{at_least(size)} *$")
            else:
                yield Run(("xl", "info"), prints=f"^free_memory +: {at_least(-(-size // 2**20))}$")

    def do(self) -> Iterator[Command]:
        yield from ()


@dataclass(frozen=True, slots=True)
class HoldMonitor(Operation):
    """Stop the domain's xl monitor with SIGSTOP: before Xen 4.20 it exits when it sees the domain suspended, and the
    guest's next reboot would leave it dead (seen on 4.17; mended by Xen's commit 6b8c85872e)."""

    effect = "change"
    name: str
    process: Process

    def title(self) -> str:
        return f"hold the xl monitor of {self.name} (process {self.process.pid})"

    def why(self) -> str:
        return "before Xen 4.20 it exits when the guest is suspended, and the guest's next reboot would leave it dead"

    def checks(self) -> Iterator[Command]:
        yield Run(("cat", f"/proc/{self.process.pid}/stat"), prints=_stat(self.process, "[A-Z]"))
        yield Run(("readlink", f"/proc/{self.process.pid}/exe"), prints=f"^{literal(self.process.exe)}$")

    def do(self) -> Iterator[Command]:
        yield Run(("kill", "-s", "STOP", "--", str(self.process.pid)))

    def after(self) -> Iterator[Command]:
        yield Run(("cat", f"/proc/{self.process.pid}/stat"), prints=_stat(self.process, "T"), within=5)

    def undo(self) -> Iterator[Command]:
        yield Run(("kill", "-s", "CONT", "--", str(self.process.pid)), when=("test", "-d", f"/proc/{self.process.pid}"))


@dataclass(frozen=True, slots=True)
class FreeMonitor(Operation):
    """Let the xl monitor go on with SIGCONT, now that the list shows the domain running."""

    effect = "change"
    name: str
    process: Process

    def title(self) -> str:
        return f"let the xl monitor of {self.name} go on"

    def do(self) -> Iterator[Command]:
        yield Run(("kill", "-s", "CONT", "--", str(self.process.pid)), when=("test", "-d", f"/proc/{self.process.pid}"))


@dataclass(frozen=True, slots=True)
class SaveMemory(Operation):
    """Suspend the guest and write its memory: `xl save -p` leaves it paused (tools/xl/xl_saverestore.c).

    later: files that are made of `part` by the end.
    """

    effect = "stop"
    name: str
    domid: int
    uuid: str
    part: str
    later: tuple[str, ...] = ()

    def title(self) -> str:
        return f"suspend {self.name} and write its memory"

    def why(self) -> str:
        return "xl save is not live: the guest stands still while all its memory is written"

    def subject(self) -> str:
        return "memory"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.part, *self.later)  # xl save truncates a file that is there
        yield Run(("test", "-d", dirname(self.part)))

    def do(self) -> Iterator[Command]:
        yield Run(("xl", "save", "-p", "--", str(self.domid), self.part))

    def after(self) -> Iterator[Command]:
        yield listed(self.name, self.domid, self.uuid, HELD)

    def undo(self) -> Iterator[Command]:
        # After a save that failed libxl has resumed the guest itself; unpause then says so and exits 0.
        yield Run(("xl", "unpause", "--", str(self.domid)))
        yield listed(self.name, self.domid, self.uuid, LET_GO, within=30)
        yield Run(("rm", "-f", "--", self.part))


@dataclass(frozen=True, slots=True)
class Unpause(Operation):
    """Let the guest run on."""

    effect = "go"
    name: str
    domid: int
    uuid: str

    def title(self) -> str:
        return f"let {self.name} run on"

    def do(self) -> Iterator[Command]:
        # Nothing matters more now: it is tried again.
        yield Run(("xl", "unpause", "--", str(self.domid)), within=30)

    def after(self) -> Iterator[Command]:
        yield listed(self.name, self.domid, self.uuid, LET_GO, within=30)


@dataclass(frozen=True, slots=True)
class CaptureLive(Operation):
    """Write the memory while the guest runs: `xl migrate` sends it with live pre-copy to a receiver of ours, and the
    guest is suspended only for the last dirty pages and the disks.

    later: files that are made of `part` by its end. seconds, most: time and bytes at which it is given up, 0 for never.
    """

    effect = "stop"
    name: str
    domid: int
    uuid: str
    part: str
    later: tuple[str, ...] = ()
    seconds: int = 0
    most: int = 0

    def title(self) -> str:
        limits = [f"{self.seconds} s"] * (self.seconds > 0) + [f"{self.most // 2**20} MiB"] * (self.most > 0)
        most = f" (given up after {' or '.join(limits)})" if limits else ""
        return f"write the memory of {self.name} while it runs{most}, then suspend it"

    def why(self) -> str:
        return "xl migrate sends the same stream as xl save, live; the receiver keeps it and declines"

    def subject(self) -> str:
        return "memory"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.part, *self.later)
        yield Run(("test", "-d", dirname(self.part)))

    def do(self) -> Iterator[Command]:
        yield Capture(self.domid, self.part, self.seconds, self.most)

    def undo(self) -> Iterator[Command]:
        yield Release(self.domid)
        yield listed(self.name, self.domid, self.uuid, LET_GO, within=30)
        yield Run(("rm", "-f", "--", self.part))


@dataclass(frozen=True, slots=True)
class ReleaseGuest(Operation):
    """End a live capture: the receiver declines and xl resumes the guest ("Migration failed, resuming at sender.")."""

    effect = "go"
    name: str
    domid: int
    uuid: str

    def title(self) -> str:
        return f"let {self.name} run on"

    def why(self) -> str:
        return 'the receiver declines; xl says "Migration failed, resuming at sender." and exits 1, as it should'

    def do(self) -> Iterator[Command]:
        yield Release(self.domid)

    def after(self) -> Iterator[Command]:
        yield listed(self.name, self.domid, self.uuid, LET_GO, within=30)


def gone(name: str, uuid: str, qemu: Process | None) -> Iterator[Command]:
    """Yield checks that the domain has left, and its QEMU with it: from then on its images are free."""
    yield Run(("xl", "list", "-v"), lacks=f"^{literal(name)} |{uuid}", within=60)
    if qemu is not None:
        yield Run(("test", "!", "-d", f"/proc/{qemu.pid}"), within=60)


@dataclass(frozen=True, slots=True)
class SavePresent(Operation):
    """Write the memory of the present and end the domain: plain `xl save`."""

    effect = "stop"
    name: str
    domid: int
    uuid: str
    part: str
    image: str
    qemu: Process | None

    def title(self) -> str:
        return f"save the memory of {self.name} as it is now, and end the domain"

    def why(self) -> str:
        return "so that a revert that fails, at whatever step, can put the domain back as it was"

    def subject(self) -> str:
        return "memory"

    def checks(self) -> Iterator[Command]:
        yield from absent(self.part, self.image)

    def do(self) -> Iterator[Command]:
        yield Run(("xl", "save", "--", str(self.domid), self.part))

    def after(self) -> Iterator[Command]:
        yield from gone(self.name, self.uuid, self.qemu)
        yield Seal(self.part)

    def undo(self) -> Iterator[Command]:
        there = ("xl", "domid", "--", self.name)  # libxl resumed it itself when the save failed
        written = ("test", "-s", self.part)  # not if the domain ended, by whosoever's hand, before its memory was saved
        yield replace(restore(self.part), when=written, unless=there)
        yield replace(listed(self.name, None, self.uuid, LET_GO, within=60), when=written)
        yield Run(("rm", "-f", "--", self.part))


@dataclass(frozen=True, slots=True)
class Destroy(Operation):
    """End the domain at once; what its memory held is lost."""

    effect = "stop"
    name: str
    domid: int
    uuid: str
    qemu: Process | None

    def title(self) -> str:
        return f"destroy {self.name}"

    def do(self) -> Iterator[Command]:
        yield Run(("xl", "destroy", "--", str(self.domid)))

    def after(self) -> Iterator[Command]:
        yield from gone(self.name, self.uuid, self.qemu)


@dataclass(frozen=True, slots=True)
class Restore(Operation):
    """Bring the domain back from a memory image; it runs at once."""

    effect = "go"
    name: str
    uuid: str
    image: str
    compressed: bool = False

    def title(self) -> str:
        return f"restore {self.name} from the snapshot's memory"

    def why(self) -> str:
        return "it runs on from that instant; its clock too, until the guest sets it again"

    def do(self) -> Iterator[Command]:
        yield restore(self.image, compressed=self.compressed)

    def after(self) -> Iterator[Command]:
        yield listed(self.name, None, self.uuid, LET_GO, within=60)

    def undo(self) -> Iterator[Command]:
        yield Run(("xl", "destroy", "--", self.name), when=("xl", "domid", "--", self.name))
        yield Run(("xl", "list", "-v"), lacks=f"^{literal(self.name)} |{self.uuid}", within=60)


def _stat(process: Process, state: str) -> str:
    """Return the pattern of /proc/PID/stat for this process in this state; the start time is field 22 (proc(5))."""
    return f"^{process.pid} [(]xl[)] {state} ([0-9-]+ ){{18}}{process.started} "
