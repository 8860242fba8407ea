"""The closed union of commands: the only thing that the two back ends, apply and script, know.

Patterns (`prints`, `lacks`, `tolerates`, `error`) are POSIX extended regular expressions of a subset that means the
same to Python's `re` and to `grep -E`: literals (`literal` escapes a text), `[...]`, `( ... )`, `|`, `*`, `+`, `?`,
`{n}`, `^`, `$`. They are matched against single lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """One program; `argv` are its words, never a shell string. It succeeds when it exits with `status` and
    some line it prints matches `prints` and no line matches `lacks`.

    within: seconds to go on trying until it succeeds (0: once).
    when, unless: argv of a guard; the command is passed over unless `when` exits 0, or if `unless` exits 0.
    input: argv of a program that is started with it, and whose output it reads as its standard input; that one too must
    exit with 0. Such a pipe is laid once: `within` is 0 then.
    tolerates: a failure during which a line on standard error matches is as good as a success (undoing what was never
    done).
    """

    argv: tuple[str, ...]
    status: int = 0
    prints: str = ""
    lacks: str = ""
    tolerates: str = ""
    within: int = 0
    when: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    input: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Qmp:
    """One request on a QMP monitor socket; it must answer "return".

    error: the request must answer "error" instead, with a description that matches this pattern (rehearsals end so).
    tolerates: an "error" whose description matches is as good as a "return" (undoing what was never done).
    prints, lacks: patterns for the return value as canonical JSON (one line, sorted keys, no spaces).
    within: seconds to go on trying until it succeeds (0: once).
    when: (command, pattern): send the request only if the return of `command` matches.
    transient: it undoes what lives in QEMU alone; where no QEMU listens any more it is done.
    offline: the program that does the same to images that no QEMU has open, "" for a request that has no such meaning.
    """

    monitor: str
    execute: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    tolerates: str = ""
    prints: str = ""
    lacks: str = ""
    within: int = 0
    when: tuple[str, ...] = ()
    transient: bool = False
    offline: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AwaitJob:
    """A QEMU job to its end: waits until it is concluded, then dismisses it; a job that failed is a failure.

    complete: send `job-complete` once it is ready (a commit of the active layer, a mirror).
    optional: a job that does not exist is as good as one that has ended (undoing what was never begun).
    pending: only until all is done but its last act, for which it waits to be told (`auto-finalize` off).
    """

    monitor: str
    job: str
    complete: bool = False
    optional: bool = False
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Capture:
    """Start a live capture of a domain's memory into `image` and come back when the guest is suspended.

    The capture is `xl migrate -s '' DOMID RECEIVER`; the receiver holds the guest suspended until `Release`. It fails,
    with the guest running, after so many seconds, or once the image has `size` bytes; 0 is never.
    """

    domid: int
    image: str
    after: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """Let the guest of a live capture go on: the receiver declines, and xl resumes the domain."""

    domid: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Prove a memory image complete by walking its stream to the END record and make it durable. With `digest` also
    write its SHA-256 to that new file, as a line that `sha256sum -c` reads and that names the image `name`."""

    image: str
    digest: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Compact:
    """Make `target`, which is smaller, of a published memory image; its SHA-256 goes beside it, to a file of its name
    with `.sha256`. Then the record, which names the image, is replaced by `text`, which names `target`, and the image
    removed with its digest. Where that fails, or is not worth it, image and record stay as they are, and it is a
    success: the snapshot is whole either way.

    pages: keep the last copy of each page alone, if that can be told for sure.
    through: argv of a program that compresses its standard input to its standard output, () for none.
    back: argv of the one that prints what `target` then stands for.
    """

    image: str
    target: str
    record: str
    text: str
    pages: bool = False
    through: tuple[str, ...] = ()
    back: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """A new small file, mode 0600, made durable; fails if the path exists."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Rename:
    """An atomic rename, over `target` if that exists, made durable: both directories are synced."""

    source: str
    target: str


Command = Run | Qmp | AwaitJob | Capture | Release | Seal | Compact | Write | Rename

_KINDS: dict[str, type[Command]] = {
    "run": Run, "qmp": Qmp, "await-job": AwaitJob, "capture": Capture,
    "release": Release, "seal": Seal, "compact": Compact, "write": Write, "rename": Rename,
}  # fmt: skip
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_json(command: Command) -> dict[str, Any]:
    """Return the command as JSON: one key, its kind, holding its fields without those at their default."""
    said = {}
    for item in fields(command):
        value = getattr(command, item.name)
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if value != default:
            said[item.name] = list(value) if isinstance(value, tuple) else value
    return {_NAMES[type(command)]: said}


def from_json(document: Mapping[str, Any]) -> Command:
    """Return the command that `to_json` gave; the document must be valid against the plan's schema."""
    ((name, said),) = document.items()
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    return _KINDS[name](**values)


def canonical(value: Any) -> str:
    """Return JSON in the one form that is hashed and compared: sorted keys, no spaces, UTF-8 as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def literal(text: str) -> str:
    """Return a pattern that matches `text` itself, to Python's `re` and to `grep -E` alike."""
    return "".join("\\" + character if character in "\\.[()*+?{|^$" else character for character in text)


def at_least(number: int) -> str:
    """Return a pattern for decimal numbers, without leading zeros, of at least `number` (1 or more)."""
    digits = str(max(number, 1))
    longer = f"[1-9][0-9]{{{len(digits)}}}[0-9]*"
    greater = (
        f"{digits[:at]}[{int(digit) + 1}-9]" + (f"[0-9]{{{rest}}}" if (rest := len(digits) - at - 1) else "")
        for at, digit in enumerate(digits)
        if digit != "9"
    )
    return f"({longer}|{'|'.join((*greater, digits))})"
