"""The one place where a word becomes shell text."""

import re

_PLAIN = re.compile(r"[A-Za-z0-9_/.,:@%+=-]+")


def quote(word: str) -> str:
    """Return a word so that any POSIX shell reads it back as it is; single quotes, unless nothing in it is special.

    Raises ValueError for a NUL, which no argument can hold.
    """
    if "\0" in word:
        raise ValueError("a word with a NUL cannot be an argument")
    if _PLAIN.fullmatch(word) and not word.startswith("="):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def join(words: tuple[str, ...]) -> str:
    """Return the words of a command line, each quoted."""
    return " ".join(map(quote, words))
