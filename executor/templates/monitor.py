"""The script's companion: QMP over connections made beforehand, and the proof that a memory image is complete.

Started by the script with ASK ANSWER READY MONITOR...; reads one command a line from the pipe ASK, as the plan has it
in JSON, and answers each with one line on the pipe ANSWER: `ok`, or what went wrong. Ends when the script does.
"""

import hashlib
import json
import os
import re
import socket
import sys
import time
from typing import Any

# --- the walker goes here
from executor.stream import walk

# --- the walker ends here

PATIENCE = 60  # seconds that a monitor may take for an answer


class Failed(Exception):
    """A command failed; the text says how."""


class Monitor:
    """One QMP connection, negotiated."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self._message()
        self.send("qmp_capabilities", {})

    def _message(self) -> Any:
        line = self.lines.readline()
        if not line:
            raise Failed("the monitor hung up")
        return json.loads(line)

    def send(self, execute: str, arguments: Any) -> Any:
        request: dict[str, Any] = {"execute": execute}
        if arguments:
            request["arguments"] = arguments
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._message()
            if "return" in message or "error" in message:
                return message


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def query(monitor: Monitor, execute: str) -> Any:
    message = monitor.send(execute, {})
    if "error" in message:
        raise Failed(f"{execute}: {message['error']['desc']}")
    return message["return"]


def qmp(monitor: Monitor, command: Any) -> None:
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
        time.sleep(0.2)


def attempt(monitor: Monitor, command: Any) -> str:
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


def await_job(monitor: Monitor, command: Any) -> None:
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
        if job["status"] == "concluded":
            monitor.send("job-dismiss", {"id": name})
            if job.get("error"):
                raise Failed(f"the job {name} failed: {job['error']}")
            return
        time.sleep(0.1)


def seal(command: Any) -> None:
    with open(command["image"], "rb") as file:
        walk(file)
        os.fsync(file.fileno())
        if not command.get("digest"):
            return
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    with open(command["digest"], "x", encoding="utf-8") as file:
        file.write(f"{digest.hexdigest()}  {command['name']}\n")
        file.flush()
        os.fsync(file.fileno())


def answer(line: str, monitors: dict[str, Monitor]) -> None:
    ((kind, command),) = json.loads(line).items()
    if kind == "seal":
        seal(command)
        return
    monitor = monitors.get(command["monitor"])
    if monitor is None:
        raise Failed("the monitor is not connected")
    (qmp if kind == "qmp" else await_job)(monitor, command)


def main(ask: str, replies: str, ready: str, *paths: str) -> None:
    monitors = {path: Monitor(path) for path in paths}
    with open(ready, "x", encoding="utf-8"):
        pass
    with open(ask, encoding="utf-8") as requests, open(replies, "w", encoding="utf-8") as out:
        for line in requests:
            try:
                answer(line, monitors)
                said = "ok"
            except (Failed, OSError, ValueError) as error:
                said = "failed: " + str(error).replace("\n", " ")
            out.write(said + "\n")
            out.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
