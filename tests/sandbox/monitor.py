"""What stands between QEMU's two QMP sockets and those who connect: it answers for the property `vdev` of Xen's disks.

The disks of a stand-in domain are virtio disks, which have no such property; all else goes to QEMU and back unread.
Like QEMU it serves one client at a time: another is connected and waits. It ends when QEMU does.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys

_DEVICE = re.compile(r"/machine/peripheral/(xvd[a-z])/virtio-backend")


class Door:
    """One public socket, QEMU's own behind it, and the client that is being served."""

    def __init__(self, listener: int, qemu: str) -> None:
        self.listener, self.path = socket.socket(fileno=listener), qemu
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
        """Pass requests on, one a line, but answer what QEMU cannot know."""
        assert self.client and self.qemu
        *lines, self.begun = (self.begun + data).split(b"\n")
        for line in lines:
            answer = reply(line)
            if answer:
                self.client.sendall(answer)
            else:
                self.qemu.sendall(line + b"\n")

    def hang_up(self) -> None:
        for each in (self.client, self.qemu):
            if each:
                each.close()
        self.client = self.qemu = None
        self.begun = b""


def reply(line: bytes) -> bytes:
    """Return the answer to a request for a disk's `vdev`, b"" for any other request. Xen says xvda0 for xvda."""
    if b"qom-get" not in line:
        return b""
    request = json.loads(line)
    said = request.get("arguments", {})
    found = _DEVICE.fullmatch(said.get("path", ""))
    if request.get("execute") != "qom-get" or said.get("property") != "vdev" or not found:
        return b""
    identity = {"id": request["id"]} if "id" in request else {}
    return json.dumps({"return": f"{found[1]}0", **identity}).encode() + b"\r\n"


def main(pid: str, *doors: str) -> None:
    """Serve the doors (listening descriptor, QEMU's socket, ...) until the process ends."""
    try:
        process = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return
    opened = [Door(int(listener), path) for listener, path in zip(doors[::2], doors[1::2], strict=True)]
    while True:
        wanted = {each.fileno(): (door, each) for door in opened for each in door.sockets()}
        ready = select.select([process, *wanted], [], [])[0]
        if process in ready:
            return
        for number in ready:
            door, each = wanted[number]
            if each in door.sockets():
                door.ready(each)


if __name__ == "__main__":
    main(*sys.argv[1:])
