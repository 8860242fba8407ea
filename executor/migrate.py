"""The sending side of a live capture: `xl migrate` at work, its receiver's word, and how the guest is let go again.

Standard library alone: generated scripts carry this file along.
"""

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

# How it ends when nobody said that the domain has arrived, with exit status 1 (tools/xl/xl_migrate.c).
RESUMING = "Migration failed, resuming at sender."
# Xen's own way to let a suspended domain go on, for an xl that has no `resume`, those before 4.20; and what the QEMU of
# an HVM domain needs then, as libxl tells it. A PVH domain's may be told, too.
_LIBRARY = (
    'from ctypes import *; from ctypes.util import find_library as f; c = CDLL(f("xenctrl"), RTLD_GLOBAL);'
    ' g = CDLL(f("xenguest"), RTLD_GLOBAL); c.xc_interface_open.restype = c_void_p;'
    " print(g.xc_domain_resume(c_void_p(c.xc_interface_open(None, None, 0)), %d, 1))"
)
_BY_LIBRARY = f"python3 -c '{_LIBRARY}'; xl qemu-monitor-command %d cont"
_SUSPENDED = "[r-][b-][p-]ss-"  # a halted guest of an HVM domain without PV drivers is blocked, too
_TAIL = 2000  # bytes of what xl said that are shown
_TICK = 0.25  # seconds
_PROMPT = 5.0  # seconds that the receiver may take to end


class NotCaptured(ValueError):
    """A live capture failed, or its guest could not be let go; the text says how."""


class Migration:
    """One `xl migrate` and its receiver, begun; `suspended` once all has come and the guest stands still.

    answer: descriptor of the answering pipe from then on, -1 before: the guest stands still for as long as anybody has
    it open, so everything that works on a disk meanwhile should. tell: is told of `xl PID`, `ready PID`, `copied BYTES
    PAGES SECONDS` and `end BYTES PAGES SECONDS`.
    """

    def __init__(
        self,
        command: Mapping[str, Any],
        folder: str,
        receiver: list[str],
        environment: Mapping[str, str] | None = None,
        tell: Callable[[str, list[float]], None] | None = None,
    ) -> None:
        self.domid, self.folder, self.tell = command["domid"], folder, tell
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder, 0o700)
        for name in ("said", "hold"):
            os.mkfifo(f"{folder}/{name}", 0o600)
        self.said = os.open(f"{folder}/said", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.hold = os.open(f"{folder}/hold", os.O_RDWR | os.O_CLOEXEC)
        self.answer = self.receiver = -1
        self.suspended, self.why, self._begun = False, "", b""
        limits = [str(command.get(name, 0)) for name in ("after", "size")]
        # xl gives it to a shell: a word each.
        words = [shlex.quote(word) for word in (*receiver, command["image"], folder, *limits)]
        argv = ["xl", "migrate", "-s", "", "--", str(self.domid), f"exec {' '.join(words)}"]
        # Its words go to memory: the disk may be full.
        self.words = os.memfd_create("xl")
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self.words, stderr=self.words, env=environment,
            start_new_session=True,
        )  # fmt: skip
        self.ended = os.pidfd_open(self.process.pid)
        self._tell("xl", self.process.pid)

    def follow(self, given: Any) -> None:
        """Come back when the guest stands still. Raises NotCaptured if it comes to that no more; the guest runs on
        then. `given` raises when nobody wants it any more."""
        watched = [self.said, self.ended]
        while not self.suspended:
            given.still_wanted()
            ready = select.select(watched, [], [], _TICK)[0]
            if self.said in ready:
                data = os.read(self.said, 1 << 16)
                if not data:
                    watched.remove(self.said)
                self._take_in(data)
            elif self.ended in ready:
                raise NotCaptured(f"xl migrate: {self.why or 'no memory image came of it'}\n{self.tail()}".strip())

    def _take_in(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode("utf-8", "replace").partition(" ")
            if word == "failed":
                self.why = rest
                continue
            numbers = [float(each) for each in rest.split()]
            if word == "ready":
                self.receiver = os.pidfd_open(int(numbers[0]))
            if word == "end":
                self.answer = os.open(f"{self.folder}/answer", os.O_WRONLY | os.O_CLOEXEC)
                self.suspended = True
            self._tell(word, *numbers)

    def _tell(self, word: str, *numbers: float) -> None:
        if self.tell:
            self.tell(word, [*numbers])

    def release(self, patience: float) -> bool:
        """Let go, and wait for the end of xl, which lets the guest go on; return whether all went as it should.

        Raises NotCaptured if xl does not end: somebody still holds the answering pipe.
        """
        with suppress(BlockingIOError):
            os.write(self.hold, b".")
        for each in (self.hold, self.answer):
            if each >= 0:
                os.close(each)
        self.hold = self.answer = -1
        if self.receiver >= 0 and not select.select([self.receiver], [], [], _PROMPT)[0]:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.receiver, signal.SIGKILL)
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise NotCaptured(
                f"xl migrate, process {self.process.pid}, has not ended after {patience:g} seconds"
            ) from None
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.suspended and status == 1 and RESUMING in self.tail()

    def tail(self) -> str:
        """Return the last of what xl and the receiver have said."""
        size = os.fstat(self.words).st_size
        return os.pread(self.words, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Close what is open still: a receiver that is there yet ends."""
        for each in (self.said, self.hold, self.answer, self.receiver, self.words, self.ended):
            if each >= 0:
                os.close(each)
        self.said = self.hold = self.answer = self.receiver = self.words = self.ended = -1


def shown(word: str, numbers: list[float], memory: int) -> str:
    """Return in words how far a capture is that tells `copied` or `end`; memory: bytes that the guest has."""
    size, pages, spent = numbers
    rate = size / spent / 2**20 if spent else 0
    times = f", {pages * 4096 / memory:.1f} times what the guest has" if memory else ""
    text = f"memory: {size / 2**20:.0f} MiB{times}, {rate:.0f} MiB/s"
    return f"{text}, in {spent:.0f} s while it ran; now it stands still" if word == "end" else f"{text}; the guest runs"


def let_run(domid: int, run: Callable[[tuple[str, ...]], tuple[int, str]]) -> None:
    """Let a domain go on that an xl which is gone has left suspended; does nothing where none was.

    run: runs a program and returns its exit status and what it printed and said. Raises NotCaptured with the commands
    where it cannot be done from here. `xl resume` exits 0 whatever happens: the list alone proves anything.
    """
    if not _suspended(domid, run):
        return
    _, said = run(("xl", "resume", "--", str(domid)))
    if not _suspended(domid, run):
        return
    run(("python3", "-c", _LIBRARY % domid))
    if not _suspended(domid, run):
        run(("xl", "qemu-monitor-command", str(domid), "cont"))
        return
    raise NotCaptured(
        f"domain {domid} is suspended, and nothing lets it go on: its xl was killed ({said.strip()[-200:]});"
        f" by hand, with Xen's library:\n{by_library(domid)}\nor: xl save -c DOMAIN FILE, which takes a minute"
    )


def by_library(domid: int) -> str:
    """Return the line of shell that lets a suspended domain go on where xl has no `resume`."""
    return _BY_LIBRARY % (domid, domid)


def _suspended(domid: int, run: Callable[[tuple[str, ...]], tuple[int, str]]) -> bool:
    return bool(re.search(rf" {domid} +[0-9]+ +[0-9]+ +{_SUSPENDED} ", run(("xl", "list", "-v"))[1]))
