"""QMP monitors of running QEMUs, through the qemu.qmp library."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Any

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError

from executor.companion import Failed, Gone
from executor.programs import patience


class Connection:
    """One monitor, negotiated with; made anew if it broke. Answers as QMP does, with "return" or "error"."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self.path, self.loop = path, loop
        self.client: QMPClient | None = None

    def connect(self) -> None:
        """Connect; raises Failed, and Gone if no QEMU listens there."""
        client = QMPClient("domsnap")
        client.logger.setLevel(logging.CRITICAL + 1)  # what goes wrong is said once, by us
        try:
            self.loop.run_until_complete(asyncio.wait_for(client.connect(self.path), patience() / 8))
        except (ConnectError, OSError, TimeoutError) as error:
            if isinstance(getattr(error, "exc", error), ConnectionRefusedError | FileNotFoundError):
                raise Gone(f"{self.path}: no QEMU listens there: {_reason(error)}") from None
            raise Failed(f"{self.path}: no answer from the monitor: {_reason(error)}") from None
        self.client = client

    def send(self, execute: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request; raises Failed if there is none in time."""
        if self.client is None:
            self.connect()
        assert self.client
        request = self.client.execute(execute, arguments or None)
        try:
            return {"return": self.loop.run_until_complete(asyncio.wait_for(request, patience() / 2))}
        except ExecuteError as error:
            return {"error": {"desc": str(error)}}
        except (QMPError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Failed(f"{self.path}: {execute}: {_reason(error)}") from None

    def close(self) -> None:
        if self.client:
            try:
                self.loop.run_until_complete(asyncio.wait_for(self.client.disconnect(), 5))
            except (QMPError, OSError, TimeoutError, EOFError):
                pass  # it is gone, which is what was wanted
            self.client = None


class Monitors:
    """The connections of one run, each made once."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.open: dict[str, Connection] = {}

    def connect(self, paths: list[str]) -> None:
        for path in paths:
            if path not in self.open:
                self.to(path).connect()

    def to(self, path: str) -> Connection:
        if path not in self.open:
            self.open[path] = Connection(path, self.loop)
        return self.open[path]

    def close(self) -> None:
        for connection in self.open.values():
            connection.close()
        self.loop.close()


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    cause = getattr(error, "exc", None)
    return str(cause or error) or type(error).__name__


def nobody_listens(paths: list[str]) -> bool:
    """Say whether no QEMU listens on any of these sockets any more. Nothing is said to one: it may be busy."""
    for path in paths:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            try:
                client.connect(path)
            except (ConnectionRefusedError, FileNotFoundError):
                continue
            except OSError:
                pass  # as many wait there as can
        return False
    return True
