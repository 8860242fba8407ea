#!/bin/sh
# shellcheck disable=SC2317,SC2329  # the undo functions are called by name, through undo()
# revert snapshot before-upgrade of web01
#
# plan      5be582760c689ed838c2765de40b02e72ace83f45d6d23994a4f3d87514497ef
# spec      0dee441db2435022cf04d83282a38ff9c34c6064e4a7b7e35d36c72c8dd68d94
# host      dom0
# domain    web01, off, pvh, UUID bbe9b839-51d1-4ac0-8ea2-25778e7005b1
# observed  2026-11-23T07:34:00Z
# stops     web01 for 4120-31200 ms: memory written and read at an assumed 50-500 MiB/s: none was measured here
#   yet
# needs     4315938816 bytes in vg0: xvdc as it is now
# needs     1098907648 bytes in RAM: restoring the domain
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

plan=5be582760c689ed838c2765de40b02e72ace83f45d6d23994a4f3d87514497ef
total=24
folder=/var/lib/domsnap/web01
lock=${DOMSNAP_RUN:-/run/domsnap}/bbe9b839-51d1-4ac0-8ea2-25778e7005b1.lock
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
# Their input is 5: nothing, but in a pipeline.
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
    program 4
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
import socket
import struct
import sys
import time
from collections.abc import Callable
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


if __name__ == "__main__":
    (whole if sys.argv[1] == "--whole" else main)(sys.argv[-1])
END_OF_COMPANION
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

# Undo step 4: make the folder /var/lib/domsnap/web01/pre-revert-1
undo_4() {
  if probe test -d /var/lib/domsnap/web01/pre-revert-1; then
    run rmdir -- /var/lib/domsnap/web01/pre-revert-1 || return 1
  fi
}

# Undo step 5: xvdb: reflink /srv/vm/web01-data.raw.before-upgrade to /srv/vm/web01-data.raw.before-upgrade~new
undo_5() {
  run rm -f -- '/srv/vm/web01-data.raw.before-upgrade~new' || return 1
}

# Undo step 6: xvdb: link /srv/vm/web01-data.raw to /srv/vm/web01-data.raw.pre-revert-1
undo_6() {
  if probe test /srv/vm/web01-data.raw.pre-revert-1 -ef /srv/vm/web01-data.raw; then
    run rm -- /srv/vm/web01-data.raw.pre-revert-1 || return 1
  fi
}

# Undo step 7: xvdd: LVM snapshot vg0/cache-before-upgrade.new (thin)
undo_7() {
  if probe lvs -- vg0/cache-before-upgrade.new; then
    run lvremove --yes -- vg0/cache-before-upgrade.new || return 1
  fi
}

# Undo step 8: xvde: reflink /srv/vm/web01-log.raw.before-upgrade to /srv/vm/web01-log.raw.before-upgrade~new
undo_8() {
  run rm -f -- '/srv/vm/web01-log.raw.before-upgrade~new' || return 1
}

# Undo step 9: xvde: link /srv/vm/web01-log.raw to /srv/vm/web01-log.raw.pre-revert-1
undo_9() {
  if probe test /srv/vm/web01-log.raw.pre-revert-1 -ef /srv/vm/web01-log.raw; then
    run rm -- /srv/vm/web01-log.raw.pre-revert-1 || return 1
  fi
}

# Undo step 12: xvda: internal snapshot pre-revert-1 of /srv/vm/web01.qcow2
undo_12() {
  expect 0 '' '' 'does not exist|snapshot not found|Can'\''t find the snapshot' 0 qemu-img snapshot -d pre-revert-1 -- /srv/vm/web01.qcow2 || return 1
}

# Undo step 13: xvda: bring /srv/vm/web01.qcow2 back to its snapshot before-upgrade
undo_13() {
  run qemu-img snapshot -a pre-revert-1 -- /srv/vm/web01.qcow2 || return 1
}

# Undo step 15: xvdc: LVM snapshot vg0/db-pre-revert-1 (thick, 4116 MiB)
undo_15() {
  run lvremove --yes --select 'lv_name="db-pre-revert-1" && lv_tags={"domsnap.web01.pre-revert-1"}' -- vg0 || return 1
}

# Undo step 16: xvdc: merge vg0/db-before-upgrade back into db, and take it again
undo_16() {
  if ! probe lvs -- vg0/db-before-upgrade; then
    run lvcreate --snapshot --yes --name db-before-upgrade --size 4315938816b --addtag domsnap.web01.before-upgrade -- vg0/db || return 1
  fi
  if probe lvs -- vg0/db-pre-revert-1; then
    run lvconvert --yes --merge -- vg0/db-pre-revert-1 || return 1
  fi
  expect 5 '' '' '' 600 lvs -- vg0/db-pre-revert-1 || return 1
}

# Undo step 18: xvdd: rename vg0/cache to cache-pre-revert-1
undo_18() {
  if ! probe lvs -- vg0/cache; then
    run lvchange --deltag domsnap.web01.pre-revert-1 -- vg0/cache-pre-revert-1 || return 1
  fi
  if ! probe lvs -- vg0/cache; then
    run lvrename -- vg0 cache-pre-revert-1 cache || return 1
  fi
}

# Undo step 19: xvdd: rename vg0/cache-before-upgrade.new to cache
undo_19() {
  if ! probe lvs -- vg0/cache-before-upgrade.new; then
    run lvrename -- vg0 cache cache-before-upgrade.new || return 1
  fi
}

# Undo step 20: xvdb: the new image takes over /srv/vm/web01-data.raw
undo_20() {
  if ! probe test -e '/srv/vm/web01-data.raw.before-upgrade~new'; then
    run ln -- /srv/vm/web01-data.raw '/srv/vm/web01-data.raw.before-upgrade~new' || return 1
  fi
  run ln -f -- /srv/vm/web01-data.raw.pre-revert-1 '/srv/vm/web01-data.raw.before-upgrade~new.back' || return 1
  rename '/srv/vm/web01-data.raw.before-upgrade~new.back' /srv/vm/web01-data.raw || return 1
  run sync -- /srv/vm || return 1
  run rm -f -- '/srv/vm/web01-data.raw.before-upgrade~new.back' || return 1
}

# Undo step 21: xvde: the new image takes over /srv/vm/web01-log.raw
undo_21() {
  if ! probe test -e '/srv/vm/web01-log.raw.before-upgrade~new'; then
    run ln -- /srv/vm/web01-log.raw '/srv/vm/web01-log.raw.before-upgrade~new' || return 1
  fi
  run ln -f -- /srv/vm/web01-log.raw.pre-revert-1 '/srv/vm/web01-log.raw.before-upgrade~new.back' || return 1
  rename '/srv/vm/web01-log.raw.before-upgrade~new.back' /srv/vm/web01-log.raw || return 1
  run sync -- /srv/vm || return 1
  run rm -f -- '/srv/vm/web01-log.raw.before-upgrade~new.back' || return 1
}

# Undo step 22: restore web01 from the snapshot's memory
undo_22() {
  if probe xl domid -- web01; then
    run xl destroy -- web01 || return 1
  fi
  expect 0 '' '^web01 |bbe9b839-51d1-4ac0-8ea2-25778e7005b1' '' 60 xl list -v || return 1
}
rollback() {
  bad=
  # What the companion was doing when a signal came must have ended before anything is undone.
  [ "$asked" -eq "$answered" ] || ask '{"idle":{}}' || :
  undo 22 undo_22
  undo 21 undo_21 22
  undo 20 undo_20 22
  undo 19 undo_19 22
  undo 18 undo_18 19 22
  undo 16 undo_16 22
  undo 13 undo_13 22
  undo 12 undo_12 13 22
  undo 15 undo_15 16
  undo 9 undo_9 21
  undo 8 undo_8 21
  undo 7 undo_7 19
  undo 6 undo_6 20
  undo 5 undo_5 20
  undo 4 undo_4
  if [ -z "$bad$final" ]; then
    say 'everything was undone'
    return 0
  fi
  if [ -n "$final" ]; then
    say "what could be undone is undone; these steps cannot be, look at the domain and plan again:$final"
    [ -n "$bad" ] || return 1
  fi
  say 'not everything could be undone; finish by hand, in this order, each line only when the one before it has worked:'
  case "$bad " in *" 22 "*)
    say '    xl domid -- web01 && xl destroy -- web01'
    say '    xl list -v'
    ;;
  *) ;;
  esac
  case "$bad " in *" 21 "*)
    say '    test -e '\''/srv/vm/web01-log.raw.before-upgrade~new'\'' || ln -- /srv/vm/web01-log.raw '\''/srv/vm/web01-log.raw.before-upgrade~new'\'''
    say '    ln -f -- /srv/vm/web01-log.raw.pre-revert-1 '\''/srv/vm/web01-log.raw.before-upgrade~new.back'\'''
    say '    test '\''/srv/vm/web01-log.raw.before-upgrade~new.back'\'' -ef /srv/vm/web01-log.raw || mv -f -T -- '\''/srv/vm/web01-log.raw.before-upgrade~new.back'\'' /srv/vm/web01-log.raw'
    say '    sync -- /srv/vm'
    say '    rm -f -- '\''/srv/vm/web01-log.raw.before-upgrade~new.back'\'''
    ;;
  *) ;;
  esac
  case "$bad " in *" 20 "*)
    say '    test -e '\''/srv/vm/web01-data.raw.before-upgrade~new'\'' || ln -- /srv/vm/web01-data.raw '\''/srv/vm/web01-data.raw.before-upgrade~new'\'''
    say '    ln -f -- /srv/vm/web01-data.raw.pre-revert-1 '\''/srv/vm/web01-data.raw.before-upgrade~new.back'\'''
    say '    test '\''/srv/vm/web01-data.raw.before-upgrade~new.back'\'' -ef /srv/vm/web01-data.raw || mv -f -T -- '\''/srv/vm/web01-data.raw.before-upgrade~new.back'\'' /srv/vm/web01-data.raw'
    say '    sync -- /srv/vm'
    say '    rm -f -- '\''/srv/vm/web01-data.raw.before-upgrade~new.back'\'''
    ;;
  *) ;;
  esac
  case "$bad " in *" 19 "*)
    say '    lvs -- vg0/cache-before-upgrade.new || lvrename -- vg0 cache cache-before-upgrade.new'
    ;;
  *) ;;
  esac
  case "$bad " in *" 18 "*)
    say '    lvs -- vg0/cache || lvchange --deltag domsnap.web01.pre-revert-1 -- vg0/cache-pre-revert-1'
    say '    lvs -- vg0/cache || lvrename -- vg0 cache-pre-revert-1 cache'
    ;;
  *) ;;
  esac
  case "$bad " in *" 16 "*)
    say '    lvs -- vg0/db-before-upgrade || lvcreate --snapshot --yes --name db-before-upgrade --size 4315938816b --addtag domsnap.web01.before-upgrade -- vg0/db'
    say '    lvs -- vg0/db-pre-revert-1 && lvconvert --yes --merge -- vg0/db-pre-revert-1'
    say '    lvs -- vg0/db-pre-revert-1'
    ;;
  *) ;;
  esac
  case "$bad " in *" 13 "*)
    say '    qemu-img snapshot -a pre-revert-1 -- /srv/vm/web01.qcow2'
    ;;
  *) ;;
  esac
  case "$bad " in *" 12 "*)
    say '    qemu-img snapshot -d pre-revert-1 -- /srv/vm/web01.qcow2'
    ;;
  *) ;;
  esac
  case "$bad " in *" 15 "*)
    say '    lvremove --yes --select '\''lv_name="db-pre-revert-1" && lv_tags={"domsnap.web01.pre-revert-1"}'\'' -- vg0'
    ;;
  *) ;;
  esac
  case "$bad " in *" 9 "*)
    say '    test /srv/vm/web01-log.raw.pre-revert-1 -ef /srv/vm/web01-log.raw && rm -- /srv/vm/web01-log.raw.pre-revert-1'
    ;;
  *) ;;
  esac
  case "$bad " in *" 8 "*)
    say '    rm -f -- '\''/srv/vm/web01-log.raw.before-upgrade~new'\'''
    ;;
  *) ;;
  esac
  case "$bad " in *" 7 "*)
    say '    lvs -- vg0/cache-before-upgrade.new && lvremove --yes -- vg0/cache-before-upgrade.new'
    ;;
  *) ;;
  esac
  case "$bad " in *" 6 "*)
    say '    test /srv/vm/web01-data.raw.pre-revert-1 -ef /srv/vm/web01-data.raw && rm -- /srv/vm/web01-data.raw.pre-revert-1'
    ;;
  *) ;;
  esac
  case "$bad " in *" 5 "*)
    say '    rm -f -- '\''/srv/vm/web01-data.raw.before-upgrade~new'\'''
    ;;
  *) ;;
  esac
  case "$bad " in *" 4 "*)
    say '    test -d /var/lib/domsnap/web01/pre-revert-1 && rmdir -- /var/lib/domsnap/web01/pre-revert-1'
    ;;
  *) ;;
  esac
  return 1
}

# What is left to do when a step after the commit fails.
rest() {
  say 'nothing is undone any more; plan again, or finish by hand, each line only when the one before it has worked:'
  if [ "$1" -le 23 ]; then
    say '    rm -f -- /var/lib/domsnap/web01/pre-revert-1/record.json.part'
    say '    printf '\''{\n  "version": 1,\n  "domain": "web01",\n  "uuid": "bbe9b839-51d1-4ac0-8ea2-25778e7005b1",\n  "type": "pvh",\n  "snapshot": "pre-revert-1",\n  "folder": "/var/lib/domsnap/web01/pre-revert-1",\n  "disks": [\n    {\n      "vdev": "xvda",\n      "method": "internal",\n      "backend": "qdisk",\n      "format": "qcow2",\n      "path": "/srv/vm/web01.qcow2",\n      "capacity": 10737418240,\n      "holder": "/srv/vm/web01.qcow2",\n      "tag": "pre-revert-1",\n      "reason": ""\n    },\n    {\n      "vdev": "xvdb",\n      "method": "reflink",\n      "backend": "phy",\n      "format": "raw",\n      "path": "/srv/vm/web01-data.raw",\n      "capacity": 4294967296,\n      "holder": "/srv/vm/web01-data.raw.pre-revert-1",\n      "tag": "",\n      "reason": ""\n    },\n    {\n      "vdev": "xvdc",\n      "method": "lvm",\n      "backend": "phy",\n      "format": "raw",\n      "path": "/dev/vg0/db",\n      "capacity": 4294967296,\n      "holder": "vg0/db-pre-revert-1",\n      "tag": "domsnap.web01.pre-revert-1",\n      "reason": ""\n    },\n    {\n      "vdev": "xvdd",\n      "method": "lvm",\n      "backend": "phy",\n      "format": "raw",\n      "path": "/dev/vg0/cache",\n      "capacity": 4294967296,\n      "holder": "vg0/cache-pre-revert-1",\n      "tag": "domsnap.web01.pre-revert-1",\n      "reason": ""\n    },\n    {\n      "vdev": "xvde",\n      "method": "reflink",\n      "backend": "qdisk",\n      "format": "raw",\n      "path": "/srv/vm/web01-log.raw",\n      "capacity": 2147483648,\n      "holder": "/srv/vm/web01-log.raw.pre-revert-1",\n      "tag": "",\n      "reason": ""\n    }\n  ],\n  "taken": "2026-11-23T07:34:00Z",\n  "state": "complete",\n  "description": "The present, before the revert to before-upgrade",\n  "parent": "before-upgrade",\n  "capture": "paused",\n  "memory": "",\n  "memory_size": 0,\n  "shrink": "",\n  "shrunk": false,\n  "xen": "4.17.7",\n  "spec": ""\n}\n'\'' >/var/lib/domsnap/web01/pre-revert-1/record.json.part'
    say '    test /var/lib/domsnap/web01/pre-revert-1/record.json.part -ef /var/lib/domsnap/web01/pre-revert-1/record.json || mv -f -T -- /var/lib/domsnap/web01/pre-revert-1/record.json.part /var/lib/domsnap/web01/pre-revert-1/record.json'
    say '    sync -- /var/lib/domsnap/web01/pre-revert-1'
  fi
  if [ "$1" -le 24 ]; then
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
if ! companion; then
  say 'the companion could not be started'
  exit 1
fi
exec 5</dev/null

# Step 1 of 24, prepare: confirm that web01 is still off, with the disks that were seen
# (QEMU opens Xen disks without image locks: only the list of domains says that an image is free)
current=1
begin 1 'confirm that web01 is still off, with the disks that were seen'
expect 0 '' '^web01 |bbe9b839-51d1-4ac0-8ea2-25778e7005b1' '' 0 xl list -v || fail 1 3
expect 0 '^1:0$' '' '' 0 stat -c %d:%i -- /srv/vm/web01.qcow2 || fail 1 3
expect 0 '^1:2$' '' '' 0 stat -c %d:%i -- /srv/vm/web01-data.raw || fail 1 3
expect 0 '^1:6$' '' '' 0 stat -c %d:%i -- /srv/vm/web01-log.raw || fail 1 3
expect 0 '^ *4nFT6i *$' '' '' 0 lvs --noheadings -o lv_uuid -- vg0/db || fail 1 3
expect 0 '^ *LXkOWO *$' '' '' 0 lvs --noheadings -o lv_uuid -- vg0/cache || fail 1 3
end 1

# Step 2 of 24, prepare: confirm that the snapshot's memory image is complete and unaltered
current=2
begin 2 'confirm that the snapshot'\''s memory image is complete and unaltered'
run test -f /var/lib/domsnap/web01/before-upgrade/memory || fail 2
run test '!' -L /var/lib/domsnap/web01/before-upgrade/memory || fail 2
run test -f /var/lib/domsnap/web01/before-upgrade/memory.sha256 || fail 2
run test '!' -L /var/lib/domsnap/web01/before-upgrade/memory.sha256 || fail 2
run sha256sum --check --status --strict -- /var/lib/domsnap/web01/before-upgrade/memory.sha256 || fail 2
ask '{"seal":{"image":"/var/lib/domsnap/web01/before-upgrade/memory"}}' || fail 2
end 2

# Step 3 of 24, prepare: confirm that there is room
# (4116 MiB in vg0, 1048 MiB in RAM)
current=3
begin 3 'confirm that there is room'
expect 0 '^ *([1-9][0-9]{10}[0-9]*|[5-9][0-9]{9}|4[4-9][0-9]{8}|43[2-9][0-9]{7}|431[6-9][0-9]{6}|43159[4-9][0-9]{4}|431593[9-9][0-9]{3}|4315938[9-9][0-9]{2}|43159388[2-9][0-9]{1}|431593881[7-9]|4315938816) *$' '' '' 0 vgs --noheadings --units b --nosuffix -o vg_free -- vg0 || fail 3
expect 0 '^free_memory +: ([1-9][0-9]{4}[0-9]*|[2-9][0-9]{3}|1[1-9][0-9]{2}|10[5-9][0-9]{1}|104[9-9]|1048)$' '' '' 0 xl info || fail 3
end 3

# Step 4 of 24, prepare: make the folder /var/lib/domsnap/web01/pre-revert-1
current=4
begin 4 'make the folder /var/lib/domsnap/web01/pre-revert-1'
run test '!' -e /var/lib/domsnap/web01/pre-revert-1 || fail 4
run test '!' -L /var/lib/domsnap/web01/pre-revert-1 || fail 4
arm 4
run mkdir -p -m 0700 -- /var/lib/domsnap/web01 || fail 4
run mkdir -m 0700 -- /var/lib/domsnap/web01/pre-revert-1 || fail 4
end 4

# Step 5 of 24, prepare: xvdb: reflink /srv/vm/web01-data.raw.before-upgrade to /srv/vm/web01-data.raw.before-
#   upgrade~new
# (a raw file on a filesystem that shares blocks: at once, and without space)
current=5
begin 5 'xvdb: reflink /srv/vm/web01-data.raw.before-upgrade to /srv/vm/web01-data.raw.before-upgrade~new'
run test '!' -e '/srv/vm/web01-data.raw.before-upgrade~new' || fail 5
run test '!' -L '/srv/vm/web01-data.raw.before-upgrade~new' || fail 5
arm 5
run cp --reflink=always --preserve=all -T -- /srv/vm/web01-data.raw.before-upgrade '/srv/vm/web01-data.raw.before-upgrade~new' || fail 5
run sync -- '/srv/vm/web01-data.raw.before-upgrade~new' || fail 5
end 5

# Step 6 of 24, prepare: xvdb: link /srv/vm/web01-data.raw to /srv/vm/web01-data.raw.pre-revert-1
# (the image keeps its content under that name when its path is taken over)
current=6
begin 6 'xvdb: link /srv/vm/web01-data.raw to /srv/vm/web01-data.raw.pre-revert-1'
run test '!' -e /srv/vm/web01-data.raw.pre-revert-1 || fail 6
run test '!' -L /srv/vm/web01-data.raw.pre-revert-1 || fail 6
arm 6
run ln -- /srv/vm/web01-data.raw /srv/vm/web01-data.raw.pre-revert-1 || fail 6
end 6

# Step 7 of 24, prepare: xvdd: LVM snapshot vg0/cache-before-upgrade.new (thin)
# (vg0/cache-before-upgrade is a logical volume)
current=7
begin 7 'xvdd: LVM snapshot vg0/cache-before-upgrade.new (thin)'
expect 5 '' '' '' 0 lvs -- vg0/cache-before-upgrade.new || fail 7
arm 7
run lvcreate --snapshot --yes --name cache-before-upgrade.new --setactivationskip n -- vg0/cache-before-upgrade || fail 7
end 7

# Step 8 of 24, prepare: xvde: reflink /srv/vm/web01-log.raw.before-upgrade to /srv/vm/web01-log.raw.before-
#   upgrade~new
# (a raw file on a filesystem that shares blocks: at once, and without space)
current=8
begin 8 'xvde: reflink /srv/vm/web01-log.raw.before-upgrade to /srv/vm/web01-log.raw.before-upgrade~new'
run test '!' -e '/srv/vm/web01-log.raw.before-upgrade~new' || fail 8
run test '!' -L '/srv/vm/web01-log.raw.before-upgrade~new' || fail 8
arm 8
run cp --reflink=always --preserve=all -T -- /srv/vm/web01-log.raw.before-upgrade '/srv/vm/web01-log.raw.before-upgrade~new' || fail 8
run sync -- '/srv/vm/web01-log.raw.before-upgrade~new' || fail 8
end 8

# Step 9 of 24, prepare: xvde: link /srv/vm/web01-log.raw to /srv/vm/web01-log.raw.pre-revert-1
# (the image keeps its content under that name when its path is taken over)
current=9
begin 9 'xvde: link /srv/vm/web01-log.raw to /srv/vm/web01-log.raw.pre-revert-1'
run test '!' -e /srv/vm/web01-log.raw.pre-revert-1 || fail 9
run test '!' -L /srv/vm/web01-log.raw.pre-revert-1 || fail 9
arm 9
run ln -- /srv/vm/web01-log.raw /srv/vm/web01-log.raw.pre-revert-1 || fail 9
end 9

# Step 10 of 24, prepare: confirm that nothing is in the way of the steps below
# (so that no check has to run while the guest stands still)
current=10
begin 10 'confirm that nothing is in the way of the steps below'
expect 0 '' '^web01 |bbe9b839-51d1-4ac0-8ea2-25778e7005b1' '' 0 xl list -v || fail 10
expect 0 '^ *"name": "before-upgrade",?$' '' '' 0 qemu-img info -U --output=json -- /srv/vm/web01.qcow2 || fail 10
expect 5 '' '' '' 0 lvs -- vg0/db-pre-revert-1 || fail 10
end 10

# Step 11 of 24, freeze: confirm that web01 is still off, with the disks that were seen
# (QEMU opens Xen disks without image locks: only the list of domains says that an image is free)
current=11
begin 11 'confirm that web01 is still off, with the disks that were seen'
end 11

# Step 12 of 24, freeze: xvda: internal snapshot pre-revert-1 of /srv/vm/web01.qcow2
# (no QEMU has it open: qemu-img does it)
current=12
begin 12 'xvda: internal snapshot pre-revert-1 of /srv/vm/web01.qcow2'
arm 12
run qemu-img snapshot -c pre-revert-1 -- /srv/vm/web01.qcow2 || fail 12
end 12

# Step 13 of 24, freeze: xvda: bring /srv/vm/web01.qcow2 back to its snapshot before-upgrade
# (no QEMU has it open: qemu-img does it (QMP has no revert without memory))
current=13
begin 13 'xvda: bring /srv/vm/web01.qcow2 back to its snapshot before-upgrade'
arm 13
run qemu-img snapshot -a before-upgrade -- /srv/vm/web01.qcow2 || fail 13
end 13

# Step 14 of 24, freeze: xvdc: confirm that nothing has vg0/db open
# (a merge into a volume that is open exits 0 and is only put off until later)
current=14
begin 14 'xvdc: confirm that nothing has vg0/db open'
expect 0 '' open '' 30 lvs --noheadings -o lv_device_open -- vg0/db || fail 14
end 14

# Step 15 of 24, freeze: xvdc: LVM snapshot vg0/db-pre-revert-1 (thick, 4116 MiB)
# (vg0/db is a logical volume)
current=15
begin 15 'xvdc: LVM snapshot vg0/db-pre-revert-1 (thick, 4116 MiB)'
arm 15
run lvcreate --snapshot --yes --name db-pre-revert-1 --size 4315938816b --addtag domsnap.web01.pre-revert-1 -- vg0/db || fail 15
end 15

# Step 16 of 24, freeze: xvdc: merge vg0/db-before-upgrade back into db, and take it again
# (a merge consumes the snapshot: it is made again before the guest can write)
current=16
begin 16 'xvdc: merge vg0/db-before-upgrade back into db, and take it again'
arm 16
run lvconvert --yes --merge -- vg0/db-before-upgrade || fail 16
expect 5 '' '' '' 600 lvs -- vg0/db-before-upgrade || fail 16
run lvcreate --snapshot --yes --name db-before-upgrade --size 4315938816b --addtag domsnap.web01.before-upgrade -- vg0/db || fail 16
end 16

# Step 17 of 24, freeze: xvdd: confirm that nothing has vg0/cache open
# (a merge into a volume that is open exits 0 and is only put off until later)
current=17
begin 17 'xvdd: confirm that nothing has vg0/cache open'
expect 0 '' open '' 30 lvs --noheadings -o lv_device_open -- vg0/cache || fail 17
end 17

# Step 18 of 24, freeze: xvdd: rename vg0/cache to cache-pre-revert-1
current=18
begin 18 'xvdd: rename vg0/cache to cache-pre-revert-1'
arm 18
run lvrename -- vg0 cache cache-pre-revert-1 || fail 18
run lvchange --addtag domsnap.web01.pre-revert-1 -- vg0/cache-pre-revert-1 || fail 18
end 18

# Step 19 of 24, freeze: xvdd: rename vg0/cache-before-upgrade.new to cache
current=19
begin 19 'xvdd: rename vg0/cache-before-upgrade.new to cache'
arm 19
run lvrename -- vg0 cache-before-upgrade.new cache || fail 19
end 19

# Step 20 of 24, freeze: xvdb: the new image takes over /srv/vm/web01-data.raw
# (before the guest runs: a reboot opens the path in its configuration, and must not open the frozen image)
current=20
begin 20 'xvdb: the new image takes over /srv/vm/web01-data.raw'
arm 20
rename '/srv/vm/web01-data.raw.before-upgrade~new' /srv/vm/web01-data.raw || fail 20
run sync -- /srv/vm || fail 20
end 20

# Step 21 of 24, freeze: xvde: the new image takes over /srv/vm/web01-log.raw
# (before the guest runs: a reboot opens the path in its configuration, and must not open the frozen image)
current=21
begin 21 'xvde: the new image takes over /srv/vm/web01-log.raw'
arm 21
rename '/srv/vm/web01-log.raw.before-upgrade~new' /srv/vm/web01-log.raw || fail 21
run sync -- /srv/vm || fail 21
end 21

# Step 22 of 24, thaw: restore web01 from the snapshot's memory
# (it runs on from that instant; its clock too, until the guest sets it again)
current=22
begin 22 'restore web01 from the snapshot'\''s memory'
arm 22
run xl restore -- /var/lib/domsnap/web01/before-upgrade/memory || fail 22
expect 0 '^web01 +[0-9]+ +[0-9]+ +[0-9]+ +[r-][b-]-(--|s[rcwS-])- +[0-9.]+ +bbe9b839-51d1-4ac0-8ea2-25778e7005b1( |$)' '' '' 60 xl list -v || fail 22
end 22
committed=yes
catch

# Step 23 of 24, finish: write the record of pre-revert-1
# (last of all: a snapshot without its record does not exist)
current=23
begin 23 'write the record of pre-revert-1'
run test '!' -e /var/lib/domsnap/web01/pre-revert-1/record.json || fail 23
run test '!' -L /var/lib/domsnap/web01/pre-revert-1/record.json || fail 23
arm 23
run rm -f -- /var/lib/domsnap/web01/pre-revert-1/record.json.part || fail 23
write /var/lib/domsnap/web01/pre-revert-1/record.json.part '{
  "version": 1,
  "domain": "web01",
  "uuid": "bbe9b839-51d1-4ac0-8ea2-25778e7005b1",
  "type": "pvh",
  "snapshot": "pre-revert-1",
  "folder": "/var/lib/domsnap/web01/pre-revert-1",
  "disks": [
    {
      "vdev": "xvda",
      "method": "internal",
      "backend": "qdisk",
      "format": "qcow2",
      "path": "/srv/vm/web01.qcow2",
      "capacity": 10737418240,
      "holder": "/srv/vm/web01.qcow2",
      "tag": "pre-revert-1",
      "reason": ""
    },
    {
      "vdev": "xvdb",
      "method": "reflink",
      "backend": "phy",
      "format": "raw",
      "path": "/srv/vm/web01-data.raw",
      "capacity": 4294967296,
      "holder": "/srv/vm/web01-data.raw.pre-revert-1",
      "tag": "",
      "reason": ""
    },
    {
      "vdev": "xvdc",
      "method": "lvm",
      "backend": "phy",
      "format": "raw",
      "path": "/dev/vg0/db",
      "capacity": 4294967296,
      "holder": "vg0/db-pre-revert-1",
      "tag": "domsnap.web01.pre-revert-1",
      "reason": ""
    },
    {
      "vdev": "xvdd",
      "method": "lvm",
      "backend": "phy",
      "format": "raw",
      "path": "/dev/vg0/cache",
      "capacity": 4294967296,
      "holder": "vg0/cache-pre-revert-1",
      "tag": "domsnap.web01.pre-revert-1",
      "reason": ""
    },
    {
      "vdev": "xvde",
      "method": "reflink",
      "backend": "qdisk",
      "format": "raw",
      "path": "/srv/vm/web01-log.raw",
      "capacity": 2147483648,
      "holder": "/srv/vm/web01-log.raw.pre-revert-1",
      "tag": "",
      "reason": ""
    }
  ],
  "taken": "2026-11-23T07:34:00Z",
  "state": "complete",
  "description": "The present, before the revert to before-upgrade",
  "parent": "before-upgrade",
  "capture": "paused",
  "memory": "",
  "memory_size": 0,
  "shrink": "",
  "shrunk": false,
  "xen": "4.17.7",
  "spec": ""
}
' || fail 23
rename /var/lib/domsnap/web01/pre-revert-1/record.json.part /var/lib/domsnap/web01/pre-revert-1/record.json || fail 23
run sync -- /var/lib/domsnap/web01/pre-revert-1 || fail 23
end 23

# Step 24 of 24, finish: note that the domain goes on from before-upgrade
current=24
begin 24 'note that the domain goes on from before-upgrade'
arm 24
run rm -f -- /var/lib/domsnap/web01/current.part || fail 24
write /var/lib/domsnap/web01/current.part 'before-upgrade
' || fail 24
rename /var/lib/domsnap/web01/current.part /var/lib/domsnap/web01/current || fail 24
run sync -- /var/lib/domsnap/web01 || fail 24
end 24
say 'done'
exit 0
