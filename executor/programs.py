"""The one funnel through which `apply` starts programs: no shell, no input, no terminal, messages in English."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from executor.companion import Failed
from executor.signals import Signals
from planner.commands import Run

SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"
_TAIL = 2000  # bytes of what a failed program said that are shown


@dataclass(frozen=True, slots=True)
class Done:
    """What a program did: its exit status (-n: ended by signal n), what it printed and what it said."""

    status: int
    out: str
    err: str


def search_path() -> str:
    """Return where programs are looked for; DOMSNAP_PATH says otherwise, as for scripts."""
    return os.environ.get("DOMSNAP_PATH", SEARCH)


def start(argv: tuple[str, ...], begun: Callable[[int], None] = lambda _: None) -> Done:
    """Run a program to its end; `begun` is told its pid. Raises Failed if it cannot be started.

    It has a session of its own: a Ctrl-C is for domsnap, and an xl that it interrupts would leave the guest suspended.
    Its output goes to files: a daemon that it leaves behind (xl restore does) must not keep a pipe open.
    """
    environment = {**os.environ, "LC_ALL": "C", "PATH": search_path()}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True,
                executable=_find(argv[0]),
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"{argv[0]}: {error.strerror}") from None
        begun(process.pid)
        status = process.wait()
        return Done(status, _text(out), _text(err))


def run(command: Run, signals: Signals, begun: Callable[[int], None] = lambda _: None) -> None:
    """Carry out a command; raises Failed with what the program said, unless all is as the command wants it."""
    if command.when and start(command.when).status != 0:
        return
    if command.unless and start(command.unless).status == 0:
        return
    end = time.monotonic() + command.within
    while True:
        done = start(command.argv, begun)
        if fine(command, done):
            return
        if time.monotonic() >= end:
            break
        signals.wait(1)
    said = (done.err.strip() or done.out.strip())[-_TAIL:]
    raise Failed(
        f"not as expected (exit status {done.status}): {' '.join(command.argv)}" + (f"\n{said}" if said else "")
    )


def fine(command: Run, done: Done) -> bool:
    """Say whether what a program did is a success."""
    lines = done.out.splitlines()
    right = (
        done.status == command.status
        and (not command.prints or any(re.search(command.prints, line) for line in lines))
        and not (command.lacks and any(re.search(command.lacks, line) for line in lines))
    )
    return right or bool(
        command.tolerates and any(re.search(command.tolerates, each) for each in done.err.splitlines())
    )


def _find(name: str) -> str:
    for folder in search_path().split(":"):
        if os.access(path := os.path.join(folder, name), os.X_OK):
            return path
    raise FileNotFoundError(2, "not found in " + search_path())


def _text(file: object) -> str:
    file.seek(0)  # type: ignore[attr-defined]
    data: bytes = file.read()  # type: ignore[attr-defined]
    return data.decode("utf-8", "replace")
