"""A real QEMU without a guest: its monitor, what it writes and reads, and which files it has open."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

QEMU = "qemu-system-x86_64"
_DEADLINE = 30.0


class Refusal(Exception):
    """QEMU answered "error"; the text is its description."""


class Machine:
    """One QEMU process with a QMP monitor; `folder` holds its socket and what it prints."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._said = folder / "qemu.out"
        monitor = folder / "qmp.sock"
        argv = [QEMU, "-machine", "pc", "-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-m", "32",
                "-qmp", f"unix:{monitor},server=on,wait=off", *options]  # fmt: skip
        with self._said.open("w") as said:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        self._socket = self._connect(monitor)
        self._answers = self._socket.makefile("r", encoding="utf-8")
        self._read()
        self("qmp_capabilities")

    def _connect(self, monitor: Path) -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(_DEADLINE)
        end = time.monotonic() + _DEADLINE
        while True:
            try:
                found.connect(str(monitor))
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    found.close()
                    raise AssertionError(f"QEMU did not start: {self._said.read_text()}") from None
                time.sleep(0.02)
            else:
                return found

    def _read(self) -> dict[str, Any]:
        while True:
            line = self._answers.readline()
            if not line:
                raise AssertionError(f"QEMU ended: {self._said.read_text()}")
            answer: dict[str, Any] = json.loads(line)
            if "event" not in answer:
                return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        self._socket.close()

    def __call__(self, execute: str, arguments: dict[str, Any] | None = None) -> Any:
        """Send one request and return what it returns; raises Refusal with QEMU's words."""
        request = json.dumps({"execute": execute, "arguments": arguments or {}})
        self._socket.sendall(request.encode() + b"\n")
        answer = self._read()
        if "error" in answer:
            raise Refusal(answer["error"]["desc"])
        return answer["return"]

    def job(self, name: str, *, complete: bool = False, until: str = "concluded") -> str:
        """Wait for a job, dismiss it once it is concluded, and return its error, "" if it had none."""
        end = time.monotonic() + _DEADLINE
        while time.monotonic() < end:
            job = next((job for job in self("query-jobs") if job["id"] == name), None)
            if job is None:
                raise AssertionError(f"there is no job {name}")
            if job["status"] == "ready" and complete:
                self("job-complete", {"id": name})
            if job["status"] == until:
                if until == "concluded":
                    self("job-dismiss", {"id": name})
                return str(job.get("error", ""))
            time.sleep(0.02)
        raise AssertionError(f"job {name} did not end")

    def io(self, node: str, command: str) -> str:
        """Run one command of qemu-io on a node, as the guest would read or write, and return what it printed."""
        before = self._said.stat().st_size
        self("human-monitor-command", {"command-line": f'qemu-io {node} "{command}"'})
        with self._said.open("rb") as said:
            said.seek(before)
            return said.read().decode()

    def open_files(self, folder: Path) -> dict[str, set[str]]:
        """Return name -> {"rw", "ro"} of the images in `folder` that QEMU has open, by the names they have today."""
        today = {path.stat().st_ino: path.name for path in folder.iterdir() if path.is_file()}
        found: dict[str, set[str]] = {}
        where = Path(f"/proc/{self._process.pid}")
        for number in os.listdir(where / "fd"):
            name = today.get((where / "fd" / number).stat().st_ino)
            flags = (where / "fdinfo" / number).read_text().split("flags:\t")[1].split()[0]
            if name and not name.startswith("qemu."):
                found.setdefault(name, set()).add("rw" if int(flags, 8) & os.O_RDWR else "ro")
        return found


@contextmanager
def machine(folder: Path, *options: str) -> Iterator[Machine]:
    with Machine(folder, *options) as started:
        yield started
