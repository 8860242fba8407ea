"""What zstd prints of itself."""

from __future__ import annotations

import re

from executor.parse.unreadable import unreadable

VERSION = "zstd --version"


def version(text: str) -> str:
    """Return zstd's version, "" for a host without it."""
    found = re.search(r" v([0-9][0-9.]*)", text)
    if found is None and text.strip():
        raise unreadable(VERSION, text, "no version in it")
    return found[1] if found else ""
