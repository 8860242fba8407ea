"""What an argv looks like without its paths, names and sizes: `qemu-img create -q -f raw -- _ _`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

# Words that say what to do, not what to do it to.
_KEPT = {
    "create", "rebase", "snapshot", "convert", "info", "qcow2", "raw", "STOP", "CONT", "!", "0700", "b", "n", "%d:%i",
    "save", "restore", "unpause", "destroy", "list", "domid", "coalesce", "pause",
}  # fmt: skip
_FIELDS = {"lvs", "vgs"}


def shape(argv: tuple[str, ...]) -> str:
    """Return the shape: options and words of the program kept, all else `_`, an empty word as ''."""
    return " ".join([argv[0], *_words(argv)])


def _words(argv: tuple[str, ...]) -> Iterator[str]:
    operands = False
    for before, word in pairwise(argv):
        if operands:
            yield "_"
        elif word == "":
            yield "''"
        elif word == "--":
            operands = True
            yield word
        elif before == "-l" and "=" in word:
            yield word.partition("=")[0] + "=_"
        elif before == "--select":
            yield re.sub(r'"[^"]*"', '"_"', word)
        elif (before == "-o" and argv[0] in _FIELDS) or word.startswith("-") or word in _KEPT:
            yield word
        else:
            yield "_"
