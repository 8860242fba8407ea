"""Reads the files that are named on the command line; whatever is wrong with one is a diagnostic, never a traceback."""

from __future__ import annotations

import os
import stat
import sys
from typing import BinaryIO

from schema.diagnostic import Diagnostic, Refused

# One byte more than the language takes, so that it is the language that says "too large", with its limit.
SPEC = 1024 * 1024 + 1
# Likewise for JSON: facts of 10,000 domains are some 20 MB.
JSON = 256 * 1024 * 1024 + 1


def shown(name: str) -> str:
    """Return how messages name this file."""
    return "<stdin>" if name == "-" else name


def contents(name: str, limit: int = SPEC) -> bytes:
    """Return the first `limit` bytes of a file, of standard input for `-`. Raises Refused."""
    try:
        if name == "-":
            if sys.stdin is None:
                raise OSError(0, "standard input is closed")
            return _all(sys.stdin.buffer, limit)
        with open(name, "rb", opener=_open) as file:
            return _all(file, limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "give the path of a file, or - for standard input" if isinstance(error, FileNotFoundError) else ""
        raise Refused([Diagnostic("cannot read the file", f"{shown(name)}: {reason}", hint)]) from None


def _open(name: str, flags: int) -> int:
    descriptor = os.open(name, flags | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(21, "it is a directory, not a file")
    return descriptor


def _all(file: BinaryIO, limit: int) -> bytes:
    """Read to the end or the limit; a raw terminal or pipe gives less than asked for at a time."""
    parts: list[bytes] = []
    left = limit
    while left and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
