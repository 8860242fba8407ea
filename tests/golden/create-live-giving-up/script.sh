#!/bin/sh
# shellcheck disable=SC2317,SC2329  # the undo functions are called by name, through undo()
# create snapshot before-upgrade of web01
#
# plan      539dafd90270ced30c94077d40b5deb572377bb85e1dce8cb50d7c9cf9b3a84f
# spec      dec2cf4d38a4c3d01dc858d26923673c6d09942901911c548988cf8c1a7522f5
# host      dom0
# domain    web01, domain 7, pvh, UUID bbe9b839-51d1-4ac0-8ea2-25778e7005b1
# observed  2026-11-23T07:34:00Z
# stops     web01 for 105-1050 ms: a live capture stops the guest for its last dirty pages only
# needs     1048576 bytes in /srv: xvda overlay
# needs     1610612736 bytes in /: memory image, which is given up at that size
# destroys  nothing
#
# usage: sh THIS-FILE [--check | --whole IMAGE]
#
# Run it as root on the plan's host. --check runs the checks that come before the first
# change, and changes nothing. --whole says whether a memory image is complete.
#
# exit status: 0 done; 1 a check failed or wrong usage, nothing changed; 3 the domain is
# not the one that was planned for: plan again; 4 locked; 5 failed, everything undone;
# 6 failed, attention needed: what is left is said; 128+n ended by signal n
set -uf
umask 077
LC_ALL=C
PATH=${DOMSNAP_PATH:-/usr/sbin:/usr/bin:/sbin:/bin}
export LC_ALL PATH

plan=539dafd90270ced30c94077d40b5deb572377bb85e1dce8cb50d7c9cf9b3a84f
total=17
folder=/var/lib/domsnap/web01
lock=${DOMSNAP_RUN:-/run/domsnap}/bbe9b839-51d1-4ac0-8ea2-25778e7005b1.lock
self=$(printf '%s' "$0" | sed "s/'/'\\\\''/g")
journal=/var/lib/domsnap/web01/journal

title='the preparations'
armed=
final=
committed=no
mode=run
work=
signal=
asked=0
answered=0

# What is said goes to 3: a signal can come while the standard error of this very shell goes to a file.
exec 3>&2

say() {
  printf '%s\n' "$*" >&3
}

# Programs run in a session of their own: a Ctrl-C is for this script, which then undoes what was done; an xl that is
# interrupted by it would leave the guest suspended. They get neither the lock nor the pipes below.
# Their input is 5: nothing, but while a live capture holds the guest still the pipe that xl waits at. The guest cannot
# run before the last of them has ended, even if all else is killed.
quietly() {
  setsid -w "$@" <&5 3>&- 5>&- 7>&- 8>&- 9>&-
}

run() {
  quietly "$@" >&3 2>&3
}

probe() {
  quietly "$@" >/dev/null 2>&1
}

matches() {
  grep -Eq -e "$1" "$2"
}

# expect STATUS PRINTS LACKS TOLERATES WITHIN PROGRAM...: the program must exit with STATUS; a line of its output must match
# PRINTS and none LACKS; a failure is as good as a success if a line of its errors matches TOLERATES; tried for WITHIN seconds.
expect() {
  status=$1
  prints=$2
  lacks=$3
  tolerates=$4
  end=$(($(date +%s) + $5))
  shift 5
  while :; do
    got=0
    quietly "$@" >"$work/out" 2>"$work/err" || got=$?
    fine=yes
    [ "$got" -eq "$status" ] || fine=no
    if [ -n "$prints" ] && ! matches "$prints" "$work/out"; then fine=no; fi
    if [ -n "$lacks" ] && matches "$lacks" "$work/out"; then fine=no; fi
    if [ "$fine" = no ] && [ -n "$tolerates" ] && matches "$tolerates" "$work/err"; then fine=yes; fi
    [ "$fine" = no ] || return 0
    [ "$(date +%s)" -lt "$end" ] || break
    sleep 1
  done
  say "  not as expected (exit status $got): $*"
  tail -n 5 "$work/err" >&3
  tail -n 5 "$work/out" >&3
  return 1
}

# write FILE TEXT: a new file, made durable.
write() {
  (
    set -C
    printf '%s' "$2" >"$1"
  ) || return 1
  run sync -- "$1"
}

# rename FROM TO: over what is there. Two names of one file are left as they are, as rename(2) does; mv would refuse.
rename() {
  # shellcheck disable=SC3013  # dash, busybox and bash know -ef
  [ "$1" -ef "$2" ] || run mv -f -T -- "$1" "$2"
}

note() {
  [ "$mode" = run ] || return 0
  printf '%s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$plan" "$*" >>"$journal" || return 1
  probe sync -- "$journal"
}
# ask COMMAND: hand one command of the plan, as JSON, to the companion, which holds the QMP connections. A signal can cut
# off the wait for an answer: each has the number of its question, and one that is late is passed over. If the signal
# itself is passed over, or waits, the wait goes on.
ask() {
  asked=$((asked + 1))
  printf '%s %s\n' "$asked" "$1" >&7 || return 1
  while :; do
    answer=
    woken=
    IFS= read -r answer <&8 || [ -n "$woken" ] || answer="$asked failed: the companion has ended"
    case $answer in
    "$asked | "*) say "  ${answer#* | }" ;;
    "$asked "*) break ;;
    *) ;;
    esac
  done
  answered=$asked
  answer=${answer#* }
  [ "$answer" != ok ] || return 0
  say "  ${answer#failed: }"
  say "  $1"
  return 1
}

# Started before anything else, since a Python takes seconds to start on a small dom0, and none of them may fall into
# the time in which the guest stands still.
companion() {
  mkfifo "$work/ask" "$work/answer" || return 1
  # Opened both ways first, so that no open waits for ever; the answers then have an end when the companion has one.
  exec 5<>"$work/answer" 7<>"$work/ask"
  exec 4<"$work/ask" 6>"$work/answer"
  exec 8<"$work/answer"
  exec 5>&-
  # Closed by an exec: for a function, a shell would only put them aside, and the pipe would never end.
  (
    exec >&6 6>&- 7>&- 8>&- 9>&-
    program 4 "$work" 1073741824
  ) &
  exec 4<&- 6>&-
}

program() {
  setsid -w python3 -I - "$@" 3>&- <<'END_OF_COMPANION'
"""The script's companion: QMP over connections made beforehand, and the proof that a memory image is complete.

Started by the script with the file descriptor of a pipe; reads one request a line, a number and a command of the plan
in JSON, and answers each on standard output with its number and `ok`, or what went wrong. Before that can come lines
with the number, `|` and something worth saying. `connect` opens monitors early, `idle` does nothing. It gives up what
it does when the next request, or the end of the pipe, comes. Ends when the script does. Given `--whole IMAGE` it says
whether a memory image is complete, and makes it durable.
"""

import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
LIBXL_MAGIC = 0x4C6962786C466D74
LIBXC_MARKER, LIBXC_MAGIC = 0xFFFFFFFFFFFFFFFF, 0x58454E46
END, LIBXC_CONTEXT = 0, 1
# Both streams have a handful of types (17 of libxc's, such as CPUID policies, were seen on Xen 4.20), and every Xen may
# add some; a number far off is no type, unless it is of the optional ones.
_FAR, _OPTIONAL = 0x100, 0x80000000
_PART = 2**20  # bytes that are read at a time where they cannot be passed over


class BrokenImage(ValueError):
    """The file is not a complete memory image; the message says what is wrong, and at which byte."""


class Forward:
    """A file that is followed from its start, or a pipe; `at` is how many bytes of it have been passed."""

    def __init__(self, file: Any) -> None:
        self.file, self.at = file, 0
        self.size = os.fstat(file.fileno()).st_size if file.seekable() else None

    def data(self, length: int) -> bytes:
        data: bytes = self.file.read(length)
        self.at += len(data)
        return data

    def read(self, layout: str, what: str) -> tuple[int, ...]:
        length = struct.calcsize(layout)
        data = self.data(length)
        if len(data) != length:
            raise BrokenImage(f"it ends inside {what}, at byte {self.at}")
        return struct.unpack(layout, data)

    def skip(self, length: int, what: str) -> None:
        end = self.at + length
        if self.size is None:
            while self.at < end and self.data(min(end - self.at, _PART)):
                pass
        elif end <= self.size:
            self.at = self.file.seek(end)
        if self.at < end:
            raise BrokenImage(f"it ends inside {what}, at byte {self.at if self.size is None else self.size}")


def walk(file: Any, tell: Callable[[int, int, int], None] | None = None) -> int:
    """Follow a memory image from its start to its END record and the end of the file; return its size in bytes.

    file: what can be read; where it can be sought in too, as in a file, page data is passed over, not read.
    tell: is told of each record of the memory: its type, where its body begins, how long that is without its padding.
    Raises BrokenImage.
    """
    image = Forward(file)
    _head(image)
    context = False
    while True:
        kind, length = image.read("<II", "a record")
        if _FAR <= kind < _OPTIONAL:
            raise BrokenImage(f"a record of the impossible type {kind}, at byte {image.at}")
        image.skip(-(-length // 8) * 8, "a record")
        if kind == LIBXC_CONTEXT:
            context = True
            _libxc(image, tell)
        if kind == END:
            break
    if not context:
        raise BrokenImage("it holds no memory")
    if (end := image.at) != image.size and image.data(1):
        more = "more bytes" if image.size is None else f"{image.size - end} bytes"
        raise BrokenImage(f"{more} follow its END, at byte {end}")
    return end


def _libxc(image: Forward, tell: Callable[[int, int, int], None] | None) -> None:
    marker, magic, version, options, _, _ = image.read(">QIIHHI", "the memory's header")
    if (marker, magic) != (LIBXC_MARKER, LIBXC_MAGIC) or version not in (2, 3) or options & 1:
        raise BrokenImage("its memory is not in libxc's format")
    image.read("<IHHII", "the memory's domain header")
    while True:
        kind, length = image.read("<II", "a record of the memory")
        if _FAR <= kind < _OPTIONAL:
            raise BrokenImage(f"a memory record of the impossible type {kind}")
        if tell:
            tell(kind, image.at, length)
        image.skip(-(-length // 8) * 8, "a record of the memory")
        if kind == 0:
            return


def _head(image: Forward) -> None:
    if image.data(len(XL_MAGIC)) != XL_MAGIC:
        raise BrokenImage("it does not begin like a memory image of xl")
    order, mandatory, _, length = image.read("=IIII", "the header")
    if order != 0x01020304:
        raise BrokenImage("it has another byte order")
    if mandatory & ~3 or not mandatory & 2:
        raise BrokenImage(f"it needs features {mandatory:#x} that are not known")
    image.skip(length, "the configuration")
    magic, version, options = image.read(">QII", "the stream's header")
    if (magic, version) != (LIBXL_MAGIC, 2) or options:
        raise BrokenImage(f"its stream is not version 2 of libxl's, at byte {image.at}")


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


PATIENCE = 60  # seconds that a monitor may take for an answer


class Failed(Exception):
    """A command failed; the text says how."""


class Gone(Failed):
    """No QEMU listens on a monitor's socket any more: it has ended."""


class Monitor:
    """One QMP connection, negotiated; made anew if it broke or an answer took too long."""

    def __init__(self, path: str) -> None:
        self.path, self.count = path, 0
        self.socket: Any = None

    def connect(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.settimeout(PATIENCE / 4)
            self.socket.connect(self.path)
            self.lines = self.socket.makefile("r", encoding="utf-8")
            self._message()
            self._exchange("qmp_capabilities", {})
            self.socket.settimeout(PATIENCE)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            self.close()
            raise Gone(f"{self.path}: no QEMU listens there: {error.strerror}") from None
        except (OSError, ValueError, Failed):
            self.close()
            raise

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def _message(self) -> Any:
        line = self.lines.readline()
        if not line:
            raise Failed("the monitor hung up")
        return json.loads(line)

    def send(self, execute: str, arguments: Any) -> Any:
        if self.socket is None:
            self.connect()
        try:
            return self._exchange(execute, arguments)
        except (OSError, ValueError, Failed):
            self.close()
            raise

    def _exchange(self, execute: str, arguments: Any) -> Any:
        self.count += 1
        request: dict[str, Any] = {"execute": execute, "id": self.count}
        if arguments:
            request["arguments"] = arguments
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._message()
            if ("return" in message or "error" in message) and message.get("id", self.count) == self.count:
                return message


class Given:
    """The pipe of requests; `wait` and `still_wanted` raise Failed as soon as there is a next one, or its end."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.number = pipe, ""

    def say(self, text: str) -> None:
        """Say something to the script, as a part of the answer to its last request."""
        try:
            sys.stdout.buffer.write(f"{self.number} {text}\n".encode("utf-8", "replace"))
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the script was killed
            os._exit(1)

    def wait(self, seconds: float) -> None:
        if select.select([self.pipe], [], [], seconds)[0]:
            raise Failed("given up: the script goes on without it")

    def still_wanted(self) -> None:
        self.wait(0)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def query(monitor: Any, execute: str) -> Any:
    message = monitor.send(execute, {})
    if "error" in message:
        raise Failed(f"{execute}: {message['error']['desc']}")
    return message["return"]


def gone(monitor: Any) -> bool:
    """Say whether no QEMU listens on the monitor's socket any more."""
    monitor.close()
    try:
        monitor.connect()
    except Gone:
        return True
    except (OSError, ValueError, Failed):
        pass
    return False


def qmp(monitor: Any, command: Any, given: Any) -> None:
    try:
        request(monitor, command, given)
    except (OSError, ValueError, Failed):
        # What lives in QEMU alone is undone when that is gone.
        if not (command.get("transient") and gone(monitor)):
            raise


def request(monitor: Any, command: Any, given: Any) -> None:
    when = command.get("when")
    if when and not re.search(when[1], canonical(query(monitor, when[0]))):
        return
    end = time.monotonic() + command.get("within", 0)
    while True:
        trouble = attempt(monitor, command)
        if not trouble:
            return
        if time.monotonic() >= end:
            raise Failed(f"{command['execute']}: {trouble}")
        given.wait(0.2)


def attempt(monitor: Any, command: Any) -> str:
    message = monitor.send(command["execute"], command.get("arguments", {}))
    if "error" in message:
        said = message["error"]["desc"]
        accepted = command.get("error") or command.get("tolerates")
        return "" if accepted and re.search(accepted, said) else str(said)
    if command.get("error"):
        return f"it worked, where {command['error']!r} was expected"
    text = canonical(message["return"])
    if command.get("prints") and not re.search(command["prints"], text):
        return f"its answer lacks {command['prints']}"
    if command.get("lacks") and re.search(command["lacks"], text):
        return f"its answer holds {command['lacks']}"
    return ""


def await_job(monitor: Any, command: Any, given: Any) -> None:
    name, completed = command["job"], False
    while True:
        job = next((each for each in query(monitor, "query-jobs") if each["id"] == name), None)
        if job is None:
            if command.get("optional"):
                return
            raise Failed(f"there is no job {name}")
        if job["status"] == "ready" and command.get("complete") and not completed:
            message = monitor.send("job-complete", {"id": name})
            if "error" in message:
                raise Failed(message["error"]["desc"])
            completed = True
        if job["status"] == "pending" and command.get("pending"):
            return
        if job["status"] == "concluded":
            monitor.send("job-dismiss", {"id": name})
            if job.get("error"):
                raise Failed(f"the job {name} failed: {job['error']}")
            return
        given.wait(0.1)


def seal(command: Any, given: Any) -> None:
    with open(command["image"], "rb") as file:
        walk(file)
        os.fsync(file.fileno())
        if not command.get("digest"):
            return
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            given.still_wanted()
            digest.update(part)
    with open(command["digest"], "x", encoding="utf-8") as file:
        file.write(f"{digest.hexdigest()}  {command['name']}\n")
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(os.path.dirname(command["digest"]), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def answer(line: str, monitors: dict[str, Monitor], given: Any, more: dict[str, Any]) -> None:
    ((kind, command),) = json.loads(line).items()
    if kind in more:
        more[kind](command, given)
        return
    if kind == "idle":
        return
    if kind == "connect":
        for path in command:
            if path not in monitors:
                monitors[path] = Monitor(path)
                monitors[path].connect()
        return
    if kind == "seal":
        seal(command, given)
        return
    monitor = monitors.setdefault(command["monitor"], Monitor(command["monitor"]))
    if kind == "qmp":
        qmp(monitor, command, given)
    else:
        await_job(monitor, command, given)


def main(ask: str, more: dict[str, Any] | None = None) -> None:
    """Answer requests until there are no more. more: what else can be asked, by kind."""
    monitors: dict[str, Monitor] = {}
    # Not buffered: what select says of the pipe is then true. Not opened by name: that would wait for ever for a writer
    # if the script has ended already.
    with open(int(ask), "rb", buffering=0) as requests:
        given = Given(requests)
        while line := requests.readline():
            given.number, _, command = line.decode("utf-8", "surrogateescape").partition(" ")
            try:
                answer(command, monitors, given, more or {})
                given.say("ok")
            except (Failed, OSError, ValueError) as error:
                *before, last = str(error).splitlines() or [type(error).__name__]
                for each in before:
                    given.say(f"| {each}")
                given.say(f"failed: {last}")


def whole(image: str) -> None:
    try:
        with open(image, "rb") as file:
            size = walk(file)
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:
        sys.exit(f"{image}: {error}")
    print(f"{image}: whole, {size} bytes")


SELDOM = 10.0  # seconds between two words about how far it is


class LiveCapture:
    """At most one capture, by the receiver in `folder`. memory: bytes that the guest has."""

    def __init__(self, folder: str, memory: int) -> None:
        self.folder, self.memory = folder, memory
        self.migration: Any = None

    def capture(self, command: Any, given: Any) -> None:
        """Come back when the memory is written and the guest stands still; raises NotCaptured."""
        began = time.monotonic()

        def tell(word: str, numbers: list[float]) -> None:
            nonlocal began
            if word == "end" or (word == "copied" and time.monotonic() >= began + SELDOM):
                began = time.monotonic()
                given.say(f"| {shown(word, numbers, self.memory)}")

        receiver = [sys.executable, "-I", f"{self.folder}/receive.py"]
        self.migration = Migration(command, f"{self.folder}/live", receiver, tell=tell)
        self.migration.follow(given)

    def release(self, command: Any, given: Any) -> None:
        """Let the guest go on, and see to it that xl has; raises NotCaptured. Nobody can call this off."""
        if self.migration is None:
            return
        fine = self.migration.release(2 * PATIENCE)
        self.migration.close()
        self.migration = None
        if not fine:
            let_run(command["domid"], run)


def run(argv: tuple[str, ...]) -> tuple[int, str]:
    """Run a program and return its exit status and all that it said."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        check=False, start_new_session=True,
    )  # fmt: skip
    return done.returncode, done.stdout


if __name__ == "__main__":
    if sys.argv[1] == "--whole":
        whole(sys.argv[2])
    else:
        live = LiveCapture(sys.argv[2], int(sys.argv[3]))
        main(sys.argv[1], {"capture": live.capture, "release": live.release})
END_OF_COMPANION
}

# xl starts the receiver of a live capture, and is to find it in a file.
receiver() {
  cat >"$work/receive.py" <<'END_OF_RECEIVER'
"""Keeps what `xl migrate -s ''` sends of a running domain as its memory image, and holds the guest still at the end.

Started by xl as `receive.py IMAGE FOLDER [SECONDS BYTES]`: the stream on standard input, the answering pipe on standard
output. All that it ever answers is that it is ready. It never says that the domain has arrived: xl would then destroy
the domain here. So xl lets the guest go on as soon as nobody holds the answering pipe any more.

FOLDER holds two FIFOs, made and opened by who started xl: to `said` it writes `ready PID`, `copied BYTES PAGES SECONDS`
now and then, and `end BYTES PAGES SECONDS` when all has come and the guest stands still, or `failed WHY`; anything that
comes through `hold`, or its end, ends this process. `answer` there is a name for the answering pipe. SECONDS and BYTES
are when to give up; 0 is never. Standard library alone: generated scripts carry this file along.

Formats: Xen's docs/specs/libxl-migration-stream.pandoc, libxc-migration-stream.pandoc, tools/xl/xl.h, xl_migrate.c.
"""

import fcntl
import os
import select
import struct
import sys
import time
from collections.abc import Generator

READY = b"xl migration receiver ready, send binary domain data.\n"
XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
LIBXL_MAGIC = 0x4C6962786C466D74
LIBXC_MARKER, LIBXC_MAGIC = 0xFFFFFFFFFFFFFFFF, 0x58454E46
END, LIBXC_CONTEXT, PAGE_DATA = 0, 1, 1
PAGE = 4096
# As in every walk over an image: a number far off is no type, unless it is of the optional ones. These two libxl types
# belong to checkpoints, of which none was asked for.
FAR, OPTIONAL, CHECKPOINTS = 0x100, 0x80000000, (4, 5)
LARGEST = 2**30  # bytes of a record; the largest is QEMU's state, of some tens of megabytes
BUFFER, PIPE, SET_PIPE_SIZE = 2**20, 2**20, 1031  # bytes, bytes, F_SETPIPE_SZ
OFTEN = 0.25  # seconds


class Odd(Exception):
    """The stream cannot be kept; the text says why."""


class Stream:
    """Follows a stream as it comes by; `pages` counts those with data, `ended` says that its END has come.

    It holds a few bytes of it at a time: page data and whatever else a record holds is counted, not looked at.
    """

    def __init__(self) -> None:
        self.pages, self.ended = 0, False
        self._kept = bytearray()
        self._steps = self._follow()
        self._wanted = next(self._steps)

    def feed(self, data: memoryview) -> None:
        """Take in what came next; raises Odd for what is no such stream."""
        at = 0
        while at < len(data):
            if self.ended:
                raise Odd(f"{len(data) - at} bytes follow its END")
            if self._wanted < 0:
                passed = min(-self._wanted, len(data) - at)
                at, self._wanted = at + passed, self._wanted + passed
            else:
                part = data[at : at + self._wanted - len(self._kept)]
                self._kept += part
                at += len(part)
            if self._wanted in (0, len(self._kept)):
                said, self._kept = bytes(self._kept), bytearray()
                try:
                    self._wanted = self._steps.send(said)
                except StopIteration:
                    self.ended = True

    def _follow(self) -> Generator[int, bytes, None]:
        """Yield how many bytes are to be given next, or minus how many are to be passed over."""
        if (yield len(XL_MAGIC)) != XL_MAGIC:
            raise Odd("it does not begin like a memory image of xl")
        order, mandatory, _, length = struct.unpack("=IIII", (yield 16))
        if order != 0x01020304:
            raise Odd("it has another byte order")
        if mandatory & ~3 or not mandatory & 2:
            raise Odd(f"it needs features {mandatory:#x} that are not known")
        yield from self._pass_over(length)
        magic, version, options = struct.unpack(">QII", (yield 16))
        if (magic, version, options) != (LIBXL_MAGIC, 2, 0):
            raise Odd("it is not version 2 of libxl's")
        context = False
        while True:
            kind, length = struct.unpack("<II", (yield 8))
            self._known(kind, length)
            if kind in CHECKPOINTS or (kind == LIBXC_CONTEXT and context):
                raise Odd(f"a record of type {kind} is out of place")
            if kind == END and not context:
                raise Odd("it holds no memory")
            yield from self._body(length)
            if kind == LIBXC_CONTEXT:
                context = True
                yield from self._memory()
            if kind == END:
                return

    def _memory(self) -> Generator[int, bytes, None]:
        marker, magic, version, options, _, _ = struct.unpack(">QIIHHI", (yield 24))
        if (marker, magic) != (LIBXC_MARKER, LIBXC_MAGIC) or version not in (2, 3) or options & 1:
            raise Odd("its memory is not in libxc's format")
        yield from self._pass_over(16)
        while True:
            kind, length = struct.unpack("<II", (yield 8))
            self._known(kind, length)
            if kind == PAGE_DATA:
                if length < 8:
                    raise Odd("a record of pages has no number of them")
                (count,) = struct.unpack("<I4x", (yield 8))
                data, odd = divmod(length - 8 - 8 * count, PAGE)
                if odd or not 0 <= data <= count:
                    raise Odd(f"a record of {count} pages has {length} bytes")
                self.pages += data
                length -= 8
            yield from self._body(length)
            if kind == END:
                return

    @staticmethod
    def _known(kind: int, length: int) -> None:
        if FAR <= kind < OPTIONAL:
            raise Odd(f"a record has the impossible type {kind}")
        if length > LARGEST or (kind == END and length):
            raise Odd(f"a record of type {kind} has the impossible length {length}")

    def _body(self, length: int) -> Generator[int, bytes, None]:
        """Pass over the rest of a record, which is padded to 8 bytes."""
        yield from self._pass_over(-(-length // 8) * 8)

    @staticmethod
    def _pass_over(length: int) -> Generator[int, bytes, None]:
        if length:
            yield -length


class Receiver:
    """Keeps a stream in `image`, which must be new. after: seconds, size: bytes at which it gives up; 0 is never."""

    def __init__(self, image: str, folder: str, after: float = 0, size: int = 0) -> None:
        self.image, self.after, self.size = image, after, size
        self.file = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.said = os.open(f"{folder}/said", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.hold = os.open(f"{folder}/hold", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.symlink(f"/proc/{os.getpid()}/fd/1", f"{folder}/answer")
        self.stream, self.bytes, self.began = Stream(), 0, time.monotonic()

    def say(self, what: str, *, surely: bool = True) -> None:
        """Write a line to `said`; not `surely`: not if nobody has read the lines before it yet."""
        if surely:
            select.select([], [self.said], [])
        try:
            os.write(self.said, f"{what}\n".encode("utf-8", "replace"))
        except BlockingIOError:
            pass

    def go(self) -> None:
        """Keep all of the stream, then hold the guest until told to end. Raises Odd, and OSError."""
        self.say(f"ready {os.getpid()}")
        os.write(1, READY)
        try:
            fcntl.fcntl(0, SET_PIPE_SIZE, PIPE)
        except OSError:
            pass  # it is slower then
        self._keep()
        self.say(f"end {self._so_far()}")
        select.select([self.hold], [], [])

    def _keep(self) -> None:
        buffer, next_word = memoryview(bytearray(BUFFER)), 0.0
        while not self.stream.ended:
            ready = select.select([0, self.hold], [], [], OFTEN)[0]
            if self.hold in ready:
                raise Odd("told to end before all had come")
            if 0 in ready:
                count = os.readv(0, [buffer])
                if not count:
                    raise Odd(f"xl hung up after {self.bytes} bytes")
                self._write(buffer[:count])
                self.stream.feed(buffer[:count])
            now = time.monotonic()
            self._still_worth_it(now - self.began)
            if now >= next_word:
                next_word = now + OFTEN
                self.say(f"copied {self._so_far()}", surely=False)

    def _write(self, data: memoryview) -> None:
        while data:
            count = os.write(self.file, data)
            self.bytes += count
            data = data[count:]

    def _still_worth_it(self, seconds: float) -> None:
        """Raise Odd when the copy does not come to an end; the guest runs on as if nothing had been."""
        if self.stream.ended:
            return
        if self.after and seconds >= self.after:
            raise Odd(f"given up: not done after {self.after:g} seconds, as `memory.give_up.after` says")
        if self.size and self.bytes >= self.size:
            raise Odd(f"given up: not done after {self.bytes} bytes, as `memory.give_up.size` says")

    def _so_far(self) -> str:
        return f"{self.bytes} {self.stream.pages} {time.monotonic() - self.began:.3f}"


def main(image: str, folder: str, after: str = "0", size: str = "0") -> None:
    """Do as xl's receiver until told to end; never returns, so that nothing is flushed or closed in some order."""
    status, receiver = 1, None
    try:
        receiver = Receiver(image, folder, float(after), int(size))
        receiver.go()
        status = 0
    except (Odd, OSError) as error:
        why = f"{image}: {error.strerror}" if isinstance(error, OSError) else str(error)
        try:
            os.write(2, f"receiver: {why}\n".encode("utf-8", "replace"))
            if receiver:
                receiver.say(f"failed {why}")
        except OSError:
            pass  # nobody is there any more to hear it
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
END_OF_RECEIVER
}

# capture COMMAND: have the memory written; from then on this script holds the guest still, as the companion does.
capture() {
  ask "$1" || return 1
  # An exec that fails by itself would end the shell.
  { exec 5>&4; } 4>>"$work/live/answer"
}

# release COMMAND: let the guest go on. A companion that has ended holds it no more; whether it runs is looked at next.
release() {
  exec 5</dev/null
  ask "$1" || [ "$answer" = 'failed: the companion has ended' ]
}
begin() {
  title=$2
  say "[$1/$total] $2"
  note "step $1 begins: $2"
}

# What is armed is undone when anything fails from here on: the step itself too, however far it came.
arm() {
  if [ "$mode" = check ]; then
    say 'the checks have passed; nothing was changed'
    exit 0
  fi
  armed="$armed $1"
}

# Before the last point of return, but this step itself has no way back.
no_return() {
  final="$final $1"
}

end() {
  note "step $1 is done"
}

# undo STEP FUNCTION NEEDS...: undo a step if it was armed, unless the undo of a step it needs has failed.
undo() {
  step=$1
  action=$2
  shift 2
  case "$armed " in
  *" $step "*) ;;
  *) return 0 ;;
  esac
  for need in "$@"; do
    case "$bad " in
    *" $need "*)
      say "  step $step is left as it is: it needs the undo of step $need"
      bad="$bad $step"
      note "step $step is not undone"
      return 0
      ;;
    *) ;;
    esac
  done
  say "  undoing step $step"
  if "$action"; then
    note "step $step is undone"
  else
    bad="$bad $step"
    note "step $step could not be undone"
  fi
}

# Undo step 3: make the folder /var/lib/domsnap/web01/before-upgrade
undo_3() {
  if probe test -d /var/lib/domsnap/web01/before-upgrade; then
    run rmdir -- /var/lib/domsnap/web01/before-upgrade || return 1
  fi
}

# Undo step 4: xvda: link /srv/vm/web01.qcow2 to /srv/vm/web01.qcow2.before-upgrade
undo_4() {
  if probe test /srv/vm/web01.qcow2.before-upgrade -ef /srv/vm/web01.qcow2; then
    run rm -- /srv/vm/web01.qcow2.before-upgrade || return 1
  fi
}

# Undo step 5: xvda: make an overlay on /srv/vm/web01.qcow2.before-upgrade
undo_5() {
  run rm -f -- '/srv/vm/web01.qcow2.before-upgrade~new' || return 1
}

# Undo step 6: xvda: open the overlay in QEMU as ds-958085fa03-xvda
undo_6() {
  ask '{"qmp":{"arguments":{"node-name":"ds-958085fa03-xvda"},"execute":"blockdev-del","monitor":"/var/run/xen/qmp-libxenstat-7","tolerates":"Failed to find node","transient":true}}' || return 1
}

# Undo step 9: hold the xl monitor of web01 (process 1400)
undo_9() {
  if probe test -d /proc/1400; then
    run kill -s CONT -- 1400 || return 1
  fi
}

# Undo step 10: write the memory of web01 while it runs (given up after 600 s or 1536 MiB), then suspend it
undo_10() {
  release '{"release":{"domid":7}}' || return 1
  expect 0 '^web01 +7 +[0-9]+ +[0-9]+ +[r-][b-]-(--|s[rcwS-])- +[0-9.]+ +bbe9b839-51d1-4ac0-8ea2-25778e7005b1( |$)' '' '' 30 xl list -v || return 1
  run rm -f -- /var/lib/domsnap/web01/before-upgrade/memory.part || return 1
}

# Undo step 11: xvda: switch to the overlay
undo_11() {
  ask '{"qmp":{"arguments":{"auto-dismiss":false,"base-node":"xvda-qcow2","device":"ds-958085fa03-xvda","job-id":"domsnap-958085fa03-xvda"},"execute":"block-commit","monitor":"/var/run/xen/qmp-libxenstat-7","offline":["qemu-img","commit","-q","-f","qcow2","--","/srv/vm/web01.qcow2.before-upgrade~new"],"when":["query-block","\"node-name\":\"ds-958085fa03-xvda\""]}}' || return 1
  ask '{"await-job":{"complete":true,"job":"domsnap-958085fa03-xvda","monitor":"/var/run/xen/qmp-libxenstat-7","optional":true}}' || return 1
  ask '{"qmp":{"execute":"query-block","lacks":"\"node-name\":\"ds-958085fa03-xvda\"","monitor":"/var/run/xen/qmp-libxenstat-7"}}' || return 1
}

# Undo step 12: xvda: the new image takes over /srv/vm/web01.qcow2
undo_12() {
  if ! probe test -e '/srv/vm/web01.qcow2.before-upgrade~new'; then
    run ln -- /srv/vm/web01.qcow2 '/srv/vm/web01.qcow2.before-upgrade~new' || return 1
  fi
  run ln -f -- /srv/vm/web01.qcow2.before-upgrade '/srv/vm/web01.qcow2.before-upgrade~new.back' || return 1
  rename '/srv/vm/web01.qcow2.before-upgrade~new.back' /srv/vm/web01.qcow2 || return 1
  run sync -- /srv/vm || return 1
  run rm -f -- '/srv/vm/web01.qcow2.before-upgrade~new.back' || return 1
}
rollback() {
  bad=
  # What the companion was doing when a signal came must have ended before anything is undone.
  [ "$asked" -eq "$answered" ] || ask '{"idle":{}}' || :
  undo 10 undo_10
  undo 9 undo_9 10
  undo 12 undo_12 10
  undo 11 undo_11 10 12
  undo 6 undo_6 11
  undo 5 undo_5 6 11 12
  undo 4 undo_4 11 12
  undo 3 undo_3 10
  if [ -z "$bad$final" ]; then
    say 'everything was undone'
    return 0
  fi
  if [ -n "$final" ]; then
    say "what could be undone is undone; these steps cannot be, look at the domain and plan again:$final"
    [ -n "$bad" ] || return 1
  fi
  say 'not everything could be undone; finish by hand, in this order, each line only when the one before it has worked:'
  case "$bad " in *" 10 "*)
    say '    xl resume -- 7  # if xl list shows it as suspended (ss), on Xen 4.20 or later'
    say '    python3 -c '\''from ctypes import *; from ctypes.util import find_library as f; c = CDLL(f("xenctrl"), RTLD_GLOBAL); g = CDLL(f("xenguest"), RTLD_GLOBAL); c.xc_interface_open.restype = c_void_p; print(g.xc_domain_resume(c_void_p(c.xc_interface_open(None, None, 0)), 7, 1))'\''; xl qemu-monitor-command 7 cont  # the same, before 4.20'
    say '    xl list -v'
    say '    rm -f -- /var/lib/domsnap/web01/before-upgrade/memory.part'
    ;;
  *) ;;
  esac
  case "$bad " in *" 9 "*)
    say '    test -d /proc/1400 && kill -s CONT -- 1400'
    ;;
  *) ;;
  esac
  case "$bad " in *" 12 "*)
    say '    test -e '\''/srv/vm/web01.qcow2.before-upgrade~new'\'' || ln -- /srv/vm/web01.qcow2 '\''/srv/vm/web01.qcow2.before-upgrade~new'\'''
    say '    ln -f -- /srv/vm/web01.qcow2.before-upgrade '\''/srv/vm/web01.qcow2.before-upgrade~new.back'\'''
    say '    test '\''/srv/vm/web01.qcow2.before-upgrade~new.back'\'' -ef /srv/vm/web01.qcow2 || mv -f -T -- '\''/srv/vm/web01.qcow2.before-upgrade~new.back'\'' /srv/vm/web01.qcow2'
    say '    sync -- /srv/vm'
    say '    rm -f -- '\''/srv/vm/web01.qcow2.before-upgrade~new.back'\'''
    ;;
  *) ;;
  esac
  case "$bad " in *" 11 "*)
    say '    printf '\''%s\n'\'' '\''{"execute":"qmp_capabilities"}'\'' '\''{"arguments":{"auto-dismiss":false,"base-node":"xvda-qcow2","device":"ds-958085fa03-xvda","job-id":"domsnap-958085fa03-xvda"},"execute":"block-commit"}'\'' | socat -t 10 - UNIX-CONNECT:/var/run/xen/qmp-libxenstat-7'
    say '    printf '\''%s\n'\'' '\''{"execute":"qmp_capabilities"}'\'' '\''{"execute":"query-jobs"}'\'' | socat -t 10 - UNIX-CONNECT:/var/run/xen/qmp-libxenstat-7  # again, until domsnap-958085fa03-xvda is concluded'
    say '    printf '\''%s\n'\'' '\''{"execute":"qmp_capabilities"}'\'' '\''{"arguments":{"id":"domsnap-958085fa03-xvda"},"execute":"job-complete"}'\'' | socat -t 10 - UNIX-CONNECT:/var/run/xen/qmp-libxenstat-7  # once, when it is ready'
    say '    printf '\''%s\n'\'' '\''{"execute":"qmp_capabilities"}'\'' '\''{"arguments":{"id":"domsnap-958085fa03-xvda"},"execute":"job-dismiss"}'\'' | socat -t 10 - UNIX-CONNECT:/var/run/xen/qmp-libxenstat-7'
    say '    printf '\''%s\n'\'' '\''{"execute":"qmp_capabilities"}'\'' '\''{"execute":"query-block"}'\'' | socat -t 10 - UNIX-CONNECT:/var/run/xen/qmp-libxenstat-7'
    ;;
  *) ;;
  esac
  case "$bad " in *" 6 "*)
    say '    printf '\''%s\n'\'' '\''{"execute":"qmp_capabilities"}'\'' '\''{"arguments":{"node-name":"ds-958085fa03-xvda"},"execute":"blockdev-del"}'\'' | socat -t 10 - UNIX-CONNECT:/var/run/xen/qmp-libxenstat-7'
    ;;
  *) ;;
  esac
  case "$bad " in *" 5 "*)
    say '    rm -f -- '\''/srv/vm/web01.qcow2.before-upgrade~new'\'''
    ;;
  *) ;;
  esac
  case "$bad " in *" 4 "*)
    say '    test /srv/vm/web01.qcow2.before-upgrade -ef /srv/vm/web01.qcow2 && rm -- /srv/vm/web01.qcow2.before-upgrade'
    ;;
  *) ;;
  esac
  case "$bad " in *" 3 "*)
    say '    test -d /var/lib/domsnap/web01/before-upgrade && rmdir -- /var/lib/domsnap/web01/before-upgrade'
    ;;
  *) ;;
  esac
  return 1
}

# What is left to do when a step after the commit fails.
rest() {
  say 'nothing is undone any more; plan again, or finish by hand, each line only when the one before it has worked:'
  if [ "$1" -le 13 ]; then
    say '    xl resume -- 7  # if xl list shows it as suspended (ss), on Xen 4.20 or later'
    say '    python3 -c '\''from ctypes import *; from ctypes.util import find_library as f; c = CDLL(f("xenctrl"), RTLD_GLOBAL); g = CDLL(f("xenguest"), RTLD_GLOBAL); c.xc_interface_open.restype = c_void_p; print(g.xc_domain_resume(c_void_p(c.xc_interface_open(None, None, 0)), 7, 1))'\''; xl qemu-monitor-command 7 cont  # the same, before 4.20'
  fi
  if [ "$1" -le 14 ]; then
    say '    test -d /proc/1400 && kill -s CONT -- 1400'
  fi
  if [ "$1" -le 15 ]; then
    say "    sh '$self' --whole"' /var/lib/domsnap/web01/before-upgrade/memory.part'
    say '    sha256sum </var/lib/domsnap/web01/before-upgrade/memory.part | sed '\''s#  -$#  /var/lib/domsnap/web01/before-upgrade/memory#'\'' >/var/lib/domsnap/web01/before-upgrade/memory.sha256'
    say '    test /var/lib/domsnap/web01/before-upgrade/memory.part -ef /var/lib/domsnap/web01/before-upgrade/memory || mv -f -T -- /var/lib/domsnap/web01/before-upgrade/memory.part /var/lib/domsnap/web01/before-upgrade/memory'
    say '    sync -- /var/lib/domsnap/web01/before-upgrade'
  fi
  if [ "$1" -le 16 ]; then
    say '    rm -f -- /var/lib/domsnap/web01/before-upgrade/record.json.part'
    say '    printf '\''{\n  "version": 1,\n  "domain": "web01",\n  "uuid": "bbe9b839-51d1-4ac0-8ea2-25778e7005b1",\n  "type": "pvh",\n  "snapshot": "before-upgrade",\n  "folder": "/var/lib/domsnap/web01/before-upgrade",\n  "disks": [\n    {\n      "vdev": "xvda",\n      "method": "external",\n      "backend": "qdisk",\n      "format": "qcow2",\n      "path": "/srv/vm/web01.qcow2",\n      "capacity": 10737418240,\n      "holder": "/srv/vm/web01.qcow2.before-upgrade",\n      "tag": "",\n      "reason": ""\n    }\n  ],\n  "taken": "2026-11-23T07:34:00Z",\n  "state": "complete",\n  "description": "",\n  "parent": "",\n  "capture": "live",\n  "memory": "/var/lib/domsnap/web01/before-upgrade/memory",\n  "memory_size": 1073741824,\n  "shrink": "",\n  "shrunk": false,\n  "xen": "4.17.7",\n  "spec": "dec2cf4d38a4c3d01dc858d26923673c6d09942901911c548988cf8c1a7522f5"\n}\n'\'' >/var/lib/domsnap/web01/before-upgrade/record.json.part'
    say '    test /var/lib/domsnap/web01/before-upgrade/record.json.part -ef /var/lib/domsnap/web01/before-upgrade/record.json || mv -f -T -- /var/lib/domsnap/web01/before-upgrade/record.json.part /var/lib/domsnap/web01/before-upgrade/record.json'
    say '    sync -- /var/lib/domsnap/web01/before-upgrade'
  fi
  if [ "$1" -le 17 ]; then
    say '    rm -f -- /var/lib/domsnap/web01/current.part'
    say '    printf '\''before-upgrade\n'\'' >/var/lib/domsnap/web01/current.part'
    say '    test /var/lib/domsnap/web01/current.part -ef /var/lib/domsnap/web01/current || mv -f -T -- /var/lib/domsnap/web01/current.part /var/lib/domsnap/web01/current'
    say '    sync -- /var/lib/domsnap/web01'
  fi
}

fail() {
  trap '' HUP INT TERM
  say "step $1 of $total failed: $title"
  note "step $1 failed"
  if [ "$committed" = yes ]; then
    rest "$1"
    exit 6
  fi
  if [ -z "$armed" ]; then
    if [ "${2:-1}" -eq 3 ]; then
      say 'nothing was changed; the domain is not the one that was planned for: plan again'
    else
      say 'nothing was changed'
    fi
    exit "${2:-1}"
  fi
  rollback || exit 6
  exit 5
}

interrupted() {
  trap '' HUP INT TERM
  signal=$1
  say "interrupted by signal $signal during: $title"
  note "interrupted by signal $signal"
  if [ "$committed" = yes ]; then
    rest "$2"
    exit 6
  fi
  if [ -n "$armed" ]; then
    rollback || exit 6
  fi
  exit $((128 + signal))
}

# Signals wait until the guest runs again.
hold_signals() {
  trap 'signal=1 woken=yes' HUP
  trap 'signal=2 woken=yes' INT
  trap 'signal=15 woken=yes' TERM
}

catch() {
  [ -z "$signal" ] || interrupted "$signal" "$((current + 1))"
  trap 'interrupted 1 "$current"' HUP
  trap 'interrupted 2 "$current"' INT
  trap 'interrupted 15 "$current"' TERM
}

clean_up() {
  [ -z "$work" ] || rm -rf -- "$work"
}

current=1
case ${1:-} in
'') ;;
--check) mode=check ;;
--whole)
  program --whole "${2:-}"
  exit
  ;;
-h | --help)
  cat <<'END_OF_HELP'
usage: sh web01-before-upgrade.sh [--check | --whole IMAGE]

Run it as root on the plan's host. --check runs the checks that come before the first
change, and changes nothing. --whole says whether a memory image is complete.

exit status: 0 done; 1 a check failed or wrong usage, nothing changed; 3 the domain is
not the one that was planned for: plan again; 4 locked; 5 failed, everything undone;
6 failed, attention needed: what is left is said; 128+n ended by signal n
END_OF_HELP
  exit 0
  ;;
*)
  say "unknown argument: $1 (try --help)"
  exit 1
  ;;
esac

# A reader of the messages that goes away, or a Ctrl-\ or Ctrl-Z, must not end or stop this script while the guest
# stands still.
trap woken=yes PIPE QUIT TSTP
catch
mkdir -p -- "$(dirname -- "$lock")" || exit 1
if [ "$mode" = run ]; then
  mkdir -p -- "$folder" || exit 1
fi
(: >>"$lock") || exit 1
exec 9>>"$lock"
if ! flock -n 9; then
  say "locked: $(cat -- "$lock")"
  exit 4
fi
printf 'process %s runs plan %s since %s\n' "$$" "$plan" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$lock"
# Not in /tmp: that can be the file system which the memory fills. Who holds the lock may remove what a killed one left.
rm -rf -- "$lock.work" && mkdir -- "$lock.work" || exit 1
work=$lock.work
trap clean_up EXIT
if ! companion || ! receiver; then
  say 'the companion could not be started'
  exit 1
fi
exec 5</dev/null

# Step 1 of 17, prepare: confirm that web01 is still domain 7, with the disks that were seen
# (a domain that was restarted since has another number and other node names: plan again)
current=1
begin 1 'confirm that web01 is still domain 7, with the disks that were seen'
expect 0 '^web01 +7 +[0-9]+ +[0-9]+ +[r-][b-]---- +[0-9.]+ +bbe9b839-51d1-4ac0-8ea2-25778e7005b1( |$)' '' '' 0 xl list -v || fail 1 3
expect 0 '^1:0$' '' '' 0 stat -c %d:%i -- /srv/vm/web01.qcow2 || fail 1 3
end 1

# The monitors are connected and negotiated with now: nothing of that is left to the freeze.
ask '{"connect":["/var/run/xen/qmp-libxenstat-7"]}' || fail 1

# Step 2 of 17, prepare: confirm that there is room
# (1 MiB in /srv, 1536 MiB in /)
current=2
begin 2 'confirm that there is room'
expect 0 '^ *([1-9][0-9]{7}[0-9]*|[2-9][0-9]{6}|1[1-9][0-9]{5}|10[5-9][0-9]{4}|104[9-9][0-9]{3}|1048[6-9][0-9]{2}|10485[8-9][0-9]{1}|104857[7-9]|1048576)$' '' '' 0 df -B1 --output=avail -- /srv || fail 2
expect 0 '^ *([1-9][0-9]{10}[0-9]*|[2-9][0-9]{9}|1[7-9][0-9]{8}|16[2-9][0-9]{7}|161[1-9][0-9]{6}|1610[7-9][0-9]{5}|16106[2-9][0-9]{4}|161061[3-9][0-9]{3}|1610612[8-9][0-9]{2}|16106127[4-9][0-9]{1}|161061273[7-9]|1610612736)$' '' '' 0 df -B1 --output=avail -- / || fail 2
end 2

# Step 3 of 17, prepare: make the folder /var/lib/domsnap/web01/before-upgrade
current=3
begin 3 'make the folder /var/lib/domsnap/web01/before-upgrade'
run test '!' -e /var/lib/domsnap/web01/before-upgrade || fail 3
run test '!' -L /var/lib/domsnap/web01/before-upgrade || fail 3
arm 3
run mkdir -p -m 0700 -- /var/lib/domsnap/web01 || fail 3
run mkdir -m 0700 -- /var/lib/domsnap/web01/before-upgrade || fail 3
end 3

# Step 4 of 17, prepare: xvda: link /srv/vm/web01.qcow2 to /srv/vm/web01.qcow2.before-upgrade
# (the image keeps its content under that name when its path is taken over)
current=4
begin 4 'xvda: link /srv/vm/web01.qcow2 to /srv/vm/web01.qcow2.before-upgrade'
run test '!' -e /srv/vm/web01.qcow2.before-upgrade || fail 4
run test '!' -L /srv/vm/web01.qcow2.before-upgrade || fail 4
arm 4
run ln -- /srv/vm/web01.qcow2 /srv/vm/web01.qcow2.before-upgrade || fail 4
end 4

# Step 5 of 17, prepare: xvda: make an overlay on /srv/vm/web01.qcow2.before-upgrade
current=5
begin 5 'xvda: make an overlay on /srv/vm/web01.qcow2.before-upgrade'
run test '!' -e '/srv/vm/web01.qcow2.before-upgrade~new' || fail 5
run test '!' -L '/srv/vm/web01.qcow2.before-upgrade~new' || fail 5
run test -f /srv/vm/web01.qcow2.before-upgrade || fail 5
arm 5
run qemu-img create -q -u -f qcow2 -b /srv/vm/web01.qcow2.before-upgrade -F qcow2 -- '/srv/vm/web01.qcow2.before-upgrade~new' 10737418240 || fail 5
run cp --attributes-only --preserve=all -- /srv/vm/web01.qcow2 '/srv/vm/web01.qcow2.before-upgrade~new' || fail 5
end 5

# Step 6 of 17, prepare: xvda: open the overlay in QEMU as ds-958085fa03-xvda
# (so that nothing is left for the transaction to do but to switch over)
current=6
begin 6 'xvda: open the overlay in QEMU as ds-958085fa03-xvda'
ask '{"qmp":{"execute":"query-named-block-nodes","lacks":"\"node-name\":\"ds-958085fa03-xvda\"|\"file\":\"/srv/vm/web01\\.qcow2\\.before-upgrade~new\"","monitor":"/var/run/xen/qmp-libxenstat-7"}}' || fail 6
arm 6
ask '{"qmp":{"arguments":{"backing":null,"discard":"unmap","driver":"qcow2","file":{"driver":"file","filename":"/srv/vm/web01.qcow2.before-upgrade~new"},"node-name":"ds-958085fa03-xvda"},"execute":"blockdev-add","monitor":"/var/run/xen/qmp-libxenstat-7"}}' || fail 6
end 6

# Step 7 of 17, prepare: rehearse the disk transaction (xvda)
# (QEMU tries every action and takes it back, so the real one cannot be refused)
current=7
begin 7 'rehearse the disk transaction (xvda)'
ask '{"qmp":{"arguments":{"actions":[{"data":{"node":"xvda-qcow2","overlay":"ds-958085fa03-xvda"},"type":"blockdev-snapshot"},{"data":{},"type":"abort"}]},"error":"Transaction aborted using Abort action","execute":"transaction","monitor":"/var/run/xen/qmp-libxenstat-7"}}' || fail 7
end 7

# Step 8 of 17, prepare: confirm that nothing is in the way of the steps below
# (so that no check has to run while the guest stands still)
current=8
begin 8 'confirm that nothing is in the way of the steps below'
run test '!' -e /var/lib/domsnap/web01/before-upgrade/memory.part || fail 8
run test '!' -L /var/lib/domsnap/web01/before-upgrade/memory.part || fail 8
run test '!' -e /var/lib/domsnap/web01/before-upgrade/memory || fail 8
run test '!' -L /var/lib/domsnap/web01/before-upgrade/memory || fail 8
run test '!' -e /var/lib/domsnap/web01/before-upgrade/memory.sha256 || fail 8
run test '!' -L /var/lib/domsnap/web01/before-upgrade/memory.sha256 || fail 8
run test -d /var/lib/domsnap/web01/before-upgrade || fail 8
ask '{"qmp":{"execute":"query-block","monitor":"/var/run/xen/qmp-libxenstat-7","prints":"\"node-name\":\"xvda-qcow2\""}}' || fail 8
end 8

# Step 9 of 17, prepare: hold the xl monitor of web01 (process 1400)
# (before Xen 4.20 it exits when the guest is suspended, and the guest's next reboot would leave it dead)
current=9
begin 9 'hold the xl monitor of web01 (process 1400)'
expect 0 '^1400 [(]xl[)] [A-Z] ([0-9-]+ ){18}87000 ' '' '' 0 cat /proc/1400/stat || fail 9
expect 0 '^/usr/lib/xen-4\.17/bin/xl$' '' '' 0 readlink /proc/1400/exe || fail 9
arm 9
run kill -s STOP -- 1400 || fail 9
expect 0 '^1400 [(]xl[)] T ([0-9-]+ ){18}87000 ' '' '' 5 cat /proc/1400/stat || fail 9
end 9

# Step 10 of 17, freeze: write the memory of web01 while it runs (given up after 600 s or 1536 MiB), then suspend
#   it
# (xl migrate sends the same stream as xl save, live; the receiver keeps it and declines)
current=10
begin 10 'write the memory of web01 while it runs (given up after 600 s or 1536 MiB), then suspend it'
arm 10
capture '{"capture":{"after":600,"domid":7,"image":"/var/lib/domsnap/web01/before-upgrade/memory.part","size":1610612736}}' || fail 10
end 10

# Step 11 of 17, freeze: xvda: switch to the overlay
# (one QMP transaction: all of these disks at one instant, or none of them)
current=11
begin 11 'xvda: switch to the overlay'
arm 11
ask '{"qmp":{"arguments":{"actions":[{"data":{"node":"xvda-qcow2","overlay":"ds-958085fa03-xvda"},"type":"blockdev-snapshot"}]},"execute":"transaction","monitor":"/var/run/xen/qmp-libxenstat-7"}}' || fail 11
end 11

# Step 12 of 17, freeze: xvda: the new image takes over /srv/vm/web01.qcow2
# (before the guest runs: a reboot opens the path in its configuration, and must not open the frozen image)
current=12
begin 12 'xvda: the new image takes over /srv/vm/web01.qcow2'
arm 12
rename '/srv/vm/web01.qcow2.before-upgrade~new' /srv/vm/web01.qcow2 || fail 12
run sync -- /srv/vm || fail 12
end 12
committed=yes
# No signal may come between this and the guest.
hold_signals

# Step 13 of 17, thaw: let web01 run on
# (the receiver declines; xl says "Migration failed, resuming at sender." and exits 1, as it should)
current=13
begin 13 'let web01 run on'
arm 13
release '{"release":{"domid":7}}' || fail 13
expect 0 '^web01 +7 +[0-9]+ +[0-9]+ +[r-][b-]-(--|s[rcwS-])- +[0-9.]+ +bbe9b839-51d1-4ac0-8ea2-25778e7005b1( |$)' '' '' 30 xl list -v || fail 13
end 13

# Step 14 of 17, thaw: let the xl monitor of web01 go on
current=14
begin 14 'let the xl monitor of web01 go on'
arm 14
if probe test -d /proc/1400; then
  run kill -s CONT -- 1400 || fail 14
fi
end 14
catch

# Step 15 of 17, finish: check that the memory image is complete, and give it its name
# (xl save never syncs, and leaves a partial file when it fails: only the END record proves it whole)
current=15
begin 15 'check that the memory image is complete, and give it its name'
run test '!' -e /var/lib/domsnap/web01/before-upgrade/memory || fail 15
run test '!' -L /var/lib/domsnap/web01/before-upgrade/memory || fail 15
run test '!' -e /var/lib/domsnap/web01/before-upgrade/memory.sha256 || fail 15
run test '!' -L /var/lib/domsnap/web01/before-upgrade/memory.sha256 || fail 15
arm 15
ask '{"seal":{"digest":"/var/lib/domsnap/web01/before-upgrade/memory.sha256","image":"/var/lib/domsnap/web01/before-upgrade/memory.part","name":"/var/lib/domsnap/web01/before-upgrade/memory"}}' || fail 15
rename /var/lib/domsnap/web01/before-upgrade/memory.part /var/lib/domsnap/web01/before-upgrade/memory || fail 15
run sync -- /var/lib/domsnap/web01/before-upgrade || fail 15
end 15

# Step 16 of 17, finish: write the record of before-upgrade
# (last of all: a snapshot without its record does not exist)
current=16
begin 16 'write the record of before-upgrade'
run test '!' -e /var/lib/domsnap/web01/before-upgrade/record.json || fail 16
run test '!' -L /var/lib/domsnap/web01/before-upgrade/record.json || fail 16
arm 16
run rm -f -- /var/lib/domsnap/web01/before-upgrade/record.json.part || fail 16
write /var/lib/domsnap/web01/before-upgrade/record.json.part '{
  "version": 1,
  "domain": "web01",
  "uuid": "bbe9b839-51d1-4ac0-8ea2-25778e7005b1",
  "type": "pvh",
  "snapshot": "before-upgrade",
  "folder": "/var/lib/domsnap/web01/before-upgrade",
  "disks": [
    {
      "vdev": "xvda",
      "method": "external",
      "backend": "qdisk",
      "format": "qcow2",
      "path": "/srv/vm/web01.qcow2",
      "capacity": 10737418240,
      "holder": "/srv/vm/web01.qcow2.before-upgrade",
      "tag": "",
      "reason": ""
    }
  ],
  "taken": "2026-11-23T07:34:00Z",
  "state": "complete",
  "description": "",
  "parent": "",
  "capture": "live",
  "memory": "/var/lib/domsnap/web01/before-upgrade/memory",
  "memory_size": 1073741824,
  "shrink": "",
  "shrunk": false,
  "xen": "4.17.7",
  "spec": "dec2cf4d38a4c3d01dc858d26923673c6d09942901911c548988cf8c1a7522f5"
}
' || fail 16
rename /var/lib/domsnap/web01/before-upgrade/record.json.part /var/lib/domsnap/web01/before-upgrade/record.json || fail 16
run sync -- /var/lib/domsnap/web01/before-upgrade || fail 16
end 16

# Step 17 of 17, finish: note that the domain goes on from before-upgrade
current=17
begin 17 'note that the domain goes on from before-upgrade'
arm 17
run rm -f -- /var/lib/domsnap/web01/current.part || fail 17
write /var/lib/domsnap/web01/current.part 'before-upgrade
' || fail 17
rename /var/lib/domsnap/web01/current.part /var/lib/domsnap/web01/current || fail 17
run sync -- /var/lib/domsnap/web01 || fail 17
end 17
say 'done'
exit 0
