"""What is wrong with a text that does not match its pattern, and what would match."""

from __future__ import annotations

import re

_NAMES = {
    "Domain": ("A-Za-z0-9_+.", "letters, 0-9 and + . _ -", "xl would take it for a domain number"),
    "Snapshot": ("a-z0-9", "a-z, 0-9 and . _ -", "qemu-img would take it for an id"),
}
_LETTERS = {"Domain": "A-Za-z0-9_+.-", "Snapshot": "a-z0-9._-"}
_LONGEST = 63


def matches(pattern: str, text: str) -> bool:
    """Say whether a text matches a pattern of a JSON Schema."""
    return re.search(python(pattern), text) is not None


def python(pattern: str) -> str:
    """Return a pattern of a JSON Schema as Python's `re` wants it; there, a `$` is the end of the text alone."""
    return pattern.replace("$", r"\Z")


def mismatch(title: str, pattern: str, said: str, shown: str, example: str) -> tuple[str, str]:
    """Return (detail, hint) for a text that does not match; `shown` is the text as messages show it."""
    if title in _NAMES:
        return _name(title, pattern, said, shown)
    if pattern == "^/":
        return (f"{shown} is not an absolute path" if said else "nothing stands there", "begin the path with /")
    if "x|" in pattern:
        detail = f"{shown} is not a number with x, or with KiB, MiB, GiB or TiB" if said else "nothing stands there"
        return detail, "write it like 3x"
    if "min|h" in pattern:
        return (f"{shown} is not a number with s, min or h" if said else "nothing stands there"), "write it like 10min"
    if "KMGT" in pattern:
        detail = f"{shown} is not bytes, or a number with KiB, MiB, GiB or TiB" if said else "nothing stands there"
        return detail, "write it like 4GiB"
    if said != said.lower() and len(said) < 100 and matches(pattern, said.lower()):
        return f"{shown} has capital letters", f"use {said.lower()}"
    return (f"{shown} does not look like {example}" if said else "nothing stands there"), f"write it like {example}"


def _name(title: str, pattern: str, said: str, shown: str) -> tuple[str, str]:
    first, allowed, digits = _NAMES[title]
    if not said:
        return f"nothing stands there; {allowed} are allowed", ""
    if said.isascii() and said.isdigit():
        return f"{shown} is all digits: {digits}", "put a letter in it"
    bad = re.search(f"[^{_LETTERS[title]}]", said)
    if bad is None and not re.match(f"[{first}]", said):
        start = "a letter or digit begins it" if title == "Snapshot" else "`-` cannot begin it"
        detail = f"{shown} begins with {said[0]!r}; {start}"
    elif bad is None:
        return f"it has {len(said)} characters; at most {_LONGEST} are allowed", ""
    elif title == "Snapshot" and re.fullmatch(r"[A-Za-z0-9._-]*", said):
        detail = f"{shown} has capital letters; {allowed} are allowed"
    else:
        character = bad.group()
        code = "" if character.isascii() and character.isprintable() else f" (U+{ord(character):04X})"
        what = "a blank" if character == " " else f"{character!r}{code}"
        detail = f"{shown} has {what}; {allowed} are allowed"
    better = said.lower() if title == "Snapshot" else said
    better = re.sub(r"-?[^A-Za-z0-9_+.-]+" if title == "Domain" else r"-?[^a-z0-9._-]+", "-", better).strip("-._")
    fits = title == "Snapshot" and said.isascii() and matches(pattern, better)
    return detail, f"use {better!r}" if fits else ""
