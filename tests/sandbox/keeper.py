"""The process that QEMU is a child of: it takes note of its end, and stands between its monitors and the world.

The disks of a stand-in domain are virtio disks, which have no property `vdev`: of that it tells what Xen's would; all
else goes to QEMU and back unread. Like QEMU it serves one client of a monitor at a time: another is connected and
waits.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_DEVICE = re.compile(r"/machine/peripheral/(xvd[a-z])/virtio-backend")


class Door:
    """One public socket, QEMU's own behind it, and the client that is being served."""

    def __init__(self, public: Path, private: Path) -> None:
        public.rename(private)  # QEMU made it there, as its command line says
        self.path = str(private)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(public))
        self.listener.listen(8)
        self.client: socket.socket | None = None
        self.qemu: socket.socket | None = None
        self.begun = b""

    def sockets(self) -> list[socket.socket]:
        return [self.client, self.qemu] if self.client and self.qemu else [self.listener]

    def ready(self, which: socket.socket) -> None:
        try:
            if which is self.listener:
                self.client, _ = self.listener.accept()
                self.qemu = socket.socket(socket.AF_UNIX)
                self.qemu.connect(self.path)
                return
            data = which.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            assert self.client and self.qemu
            if which is self.qemu:
                self.client.sendall(data)
            else:
                self.ask(data)
        except OSError:
            self.hang_up()

    def ask(self, data: bytes) -> None:
        """Pass whole requests on, which may stand on lines of their own or not, but answer what QEMU cannot know."""
        assert self.client and self.qemu
        self.begun += data
        while self.begun.strip():
            try:
                text = self.begun.decode().lstrip()
                request, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                return
            answer = reply(request)
            if answer:
                self.client.sendall(answer)
            else:
                self.qemu.sendall(text[:end].encode() + b"\n")
            self.begun = text[end:].encode()

    def hang_up(self) -> None:
        for each in (self.client, self.qemu):
            if each:
                each.close()
        self.client = self.qemu = None
        self.begun = b""


def reply(request: Any) -> bytes:
    """Return the answer to a request for a disk's `vdev`, b"" for any other request. Xen says xvda0 for xvda."""
    match request:
        case {"execute": "qom-get", "arguments": {"path": str(path), "property": "vdev"}}:
            found = _DEVICE.fullmatch(path)
            identity = {"id": request["id"]} if "id" in request else {}
            return json.dumps({"return": f"{found[1]}0", **identity}).encode() + b"\r\n" if found else b""
    return b""


def keep(argv: Sequence[str], log: Path, doors: Mapping[Path, Path], inherited: tuple[int, ...]) -> Kept:
    """Start a program with a keeper for its parent; `doors` says where each public socket is moved out of the way."""
    (said, tell), (go, let) = os.pipe(), os.pipe()
    if os.fork():
        os.close(tell)
        os.close(go)
        return Kept(int(os.read(said, 20)), said, let)
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in {tell, go, *inherited}:
                try:
                    os.close(int(name))
                except OSError:  # that of the list itself
                    pass
        with log.open("w") as file:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, pass_fds=inherited
            )
        os.write(tell, str(process.pid).encode())
        opened = [Door(*paths) for paths in doors.items()] if os.read(go, 1) else []
        os.write(tell, b"ok")
        for number in (tell, go, *inherited):
            os.close(number)
        _serve(os.pidfd_open(process.pid), opened)
        process.wait()
    finally:
        os._exit(0)


def _serve(process: int, opened: Sequence[Door]) -> None:
    """Serve the doors until the process has ended."""
    while True:
        wanted = {each.fileno(): (door, each) for door in opened for each in door.sockets()}
        ready = select.select([process, *wanted], [], [])[0]
        if process in ready:
            return
        for number in ready:
            door, each = wanted[number]
            if each in door.sockets():
                door.ready(each)


class Kept:
    """A program that was started, by its keeper."""

    def __init__(self, pid: int, said: int, let: int) -> None:
        self.pid, self._said, self._let = pid, said, let

    def open_doors(self) -> None:
        """Let the keeper take over the public sockets, which the program has made; come back when it has."""
        os.write(self._let, b"g")
        os.read(self._said, 2)

    def close(self) -> None:
        os.close(self._let)
        os.close(self._said)
