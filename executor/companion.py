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
import sys
import time
from typing import Any

from executor.stream import walk

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
