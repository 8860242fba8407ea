"""Whether a QEMU listens on a monitor's socket, at real sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from executor.monitors import nobody_listens


def test_a_socket_that_was_left_behind_has_nobody_who_listens(tmp_path: Path) -> None:
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(left))
    assert nobody_listens([str(tmp_path / "none"), str(left)])


def test_a_qemu_that_talks_to_another_listens_all_the_same(tmp_path: Path) -> None:
    """A monitor has one client; others wait in a queue, and when that is full they are turned away."""
    path = str(tmp_path / "monitor")
    with socket.socket(socket.AF_UNIX) as qemu:
        qemu.bind(path)
        qemu.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            assert not nobody_listens([str(tmp_path / "none"), path])
            client.connect_ex(path)
        assert not nobody_listens([path])
        for client in waiting:
            client.close()
