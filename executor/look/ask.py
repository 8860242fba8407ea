"""The one funnel for programs that only say something: no shell, no input, English, and an end to waiting."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess

from executor.programs import search_path
from schema.diagnostic import Diagnostic, Refused

PATIENCE = 60.0  # seconds
_TAIL = 600  # characters of what a failed program said that are shown
_LARGEST = 256 * 2**20  # bytes; what 10,000 domains make of `xl list -l` is a tenth of that
_BY_HAND = "run the command by hand, as root on the Xen host"


def find(program: str) -> str:
    """Return the path of a program of the host, "" if it has none; DOMSNAP_PATH says where to look, as for scripts."""
    for folder in search_path().split(":"):
        path = os.path.join(folder, program)
        if folder.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def ask(*argv: str, patience: float = PATIENCE) -> str:
    """Return what a program prints.

    Raises Refused if there is none, if it fails, prints more than 256 MiB or takes longer than `patience` seconds.
    """
    status, printed, said = _run(argv, patience)
    if status:
        raise refuse("a program of the host failed", _failure(argv, status, printed, said), _BY_HAND)
    return printed


def ask_in_part(*argv: str, begins: str, patience: float = PATIENCE) -> tuple[str, str]:
    """Return what a program prints, and "" or how it then failed: `df` and `lvs` tell all they can before they do.

    Raises Refused as `ask` does where the output does not begin as it should.
    """
    status, printed, said = _run(argv, patience)
    failure = _failure(argv, status, printed, said) if status else ""
    if failure and not printed.lstrip().startswith(begins):
        raise refuse("a program of the host failed", failure, _BY_HAND)
    return printed, failure


def refuse(summary: str, detail: str, hint: str = "") -> Refused:
    """Return the error that is one diagnostic."""
    return Refused([Diagnostic(summary, detail, hint)])


def _failure(argv: tuple[str, ...], status: int, printed: str, said: str) -> str:
    ended = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    tail = " ".join((said.strip() or printed).split())[-_TAIL:]
    return f"`{shlex.join(argv)}`: {ended}; it said {tail or 'nothing'}"


def _run(argv: tuple[str, ...], patience: float) -> tuple[int, str, str]:
    """Return exit status, output and errors. They go to memory: what a child left behind could hold a pipe."""
    path = find(argv[0])
    if not path:
        raise refuse("a program is missing", f"there is no `{argv[0]}` in {search_path()}")
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    try:
        status = _wait(argv, path, (out, err), patience)
        if os.fstat(out).st_size > _LARGEST:
            raise refuse("a program of the host prints too much", f"`{shlex.join(argv)}`: more than 256 MiB", _BY_HAND)
        return status, _text(out), _text(err)
    finally:
        os.close(out)
        os.close(err)


def _wait(argv: tuple[str, ...], path: str, files: tuple[int, int], patience: float) -> int:
    environment = {**os.environ, "LC_ALL": "C", "PATH": search_path()}
    try:
        process = subprocess.Popen(
            argv, executable=path, stdin=subprocess.DEVNULL, stdout=files[0], stderr=files[1], env=environment,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise refuse("a program cannot be started", f"{path}: {error.strerror}") from None
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        detail = f"`{shlex.join(argv)}`: no answer within {patience:g} seconds"
        raise refuse("a program of the host does not answer", detail, _BY_HAND) from None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that was given up, and all it started; one that hangs in the kernel (a dead NFS) stays."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(1)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def _text(file: int) -> str:
    return os.pread(file, _LARGEST, 0).decode("utf-8", "replace")
