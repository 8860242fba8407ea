"""Writes plans, scripts and facts to files: whole or not at all, for their owner alone, never over what is not ours."""

from __future__ import annotations

import os
import re
import stat
from typing import Literal

from schema.diagnostic import Diagnostic, Refused

Kind = Literal["plan", "script", "facts", "outputs"]
MODES: dict[Kind, int] = {"plan": 0o600, "script": 0o700, "facts": 0o600, "outputs": 0o600}
_BEGIN = 4096
# How domsnap/observing.py writes them.
_OBSERVED = {"facts": re.compile(rb'\{\s*"version": 1,\s*"observed": "'), "outputs": re.compile(rb'\{\s*"observed": "')}
_SCRIPT = re.compile(rb"#!/bin/sh\n(#.*\n)*# plan +[0-9a-f]{64}\n")  # how executor/script.py begins


def save(path: str, data: bytes, kind: Kind) -> None:
    """Write `data` to `path`, readable (a script: and executable) by its owner only, and make it durable.

    Raises Refused if there is something that is no plan, script or facts of domsnap, or if the file system says no.
    """
    replace = _ours(path, kind)
    folder, name = os.path.split(path)
    passing = os.path.join(folder, f".{name}.{os.getpid()}~")
    try:
        try:
            _write(passing, data, MODES[kind])
            _publish(passing, path, replace=replace)
        finally:
            _remove(passing)
        _sync(folder or ".")
    except FileExistsError:
        raise _refused(path, "somebody else made it just now", "try again") from None
    except OSError as error:
        raise Refused([Diagnostic("cannot write the file", f"{path}: {error.strerror}")]) from None


def _ours(path: str, kind: Kind) -> bool:
    """Say whether there is a file of this kind at `path`; raise Refused if there is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Refused([Diagnostic("cannot write the file", f"{path}: {error.strerror}")]) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise _refused(path, "it is a directory", "add a file name")
        if not stat.S_ISREG(mode):
            raise _refused(path, "it is not a regular file", "leave -o out to print to standard output")
        if _is_ours(os.read(descriptor, _BEGIN), kind):
            return True
    finally:
        os.close(descriptor)
    what = kind if kind in _OBSERVED else "a plan or script"
    raise _refused(path, f"it is not {what} made by domsnap", "choose another name, or remove it first")


def _is_ours(begin: bytes, kind: Kind) -> bool:
    """Say so of the first bytes of a file; an empty one has nothing to lose. No plan replaces facts."""
    if kind in _OBSERVED:
        return not begin or bool(_OBSERVED[kind].match(begin))
    return not begin or begin.startswith(b'{"assumes":') or bool(_SCRIPT.match(begin))


def _write(path: str, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _publish(passing: str, path: str, *, replace: bool) -> None:
    """Give the file its name; a link, unlike a rename, never replaces what came there in the meantime."""
    if not replace:
        try:
            os.link(passing, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError from None
        else:
            return
    os.rename(passing, path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: str, reason: str, hint: str) -> Refused:
    return Refused([Diagnostic("will not write over this file", f"{path}: {reason}", hint)])
