"""What a schema cannot say of a spec: what goes together, what is kept for others, and why memory is never optional."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from schema.diagnostic import Diagnostic, cut, shown
from schema.source import Document, Path

_NONE = {"none", "no", "false", "off", "null", "~", "disk-only", "disk"}
# Which methods can hold an image of which format.
_FORMATS = {
    "raw": ("reflink", "copy", "lvm", "exclude"),
    "qcow2": ("internal", "external", "exclude"),
    "vhd": ("vhd", "exclude"),
}
_REASON = "a disk is left alone for a reason, which is kept with the snapshot"
_MOST = 2**63  # what the kernels of this world count bytes with
_DIGITS = 40
_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TIMES = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?x")
_SECONDS = {"s": 1, "min": 60, "h": 3600}
_DURATION = re.compile(r"([0-9]{1,6}) ?(s|min|h)")
_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))? ?([KMGT]?)(?:i?B?)")


def size(text: str | int) -> int:
    """Return the bytes that a size says; K, M, G and T count by 1024, with or without iB."""
    found = _SIZE.fullmatch(str(text))
    if found is None:
        raise ValueError(text)
    whole, part, unit = found.groups()
    if len(whole) > _DIGITS:  # Python converts no more than 4300; what is left is still more than any disk has
        whole = whole.lstrip("0")[:_DIGITS] or "0"
    return int(whole) * _UNITS[unit] + (int(part[:9]) * _UNITS[unit] // 10 ** len(part[:9]) if part else 0)


def seconds(text: str) -> int:
    """Return the seconds that a duration says."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * _SECONDS[found[2]]


def no_memory(document: Document) -> Diagnostic | None:
    """Return the refusal of `memory: none` in any of its spellings, None if the memory is not declined."""
    value = document.value.get("memory") if isinstance(document.value, dict) else None
    path: Path = ("memory",)
    if isinstance(value, dict):
        value, path = value.get("capture"), ("memory", "capture")
    if not isinstance(value, str) or value.lower() not in _NONE:
        return None
    return document.say(
        "memory is never left out",
        "disks alone, taken from under a running guest, are what a crash leaves behind: file systems in the middle of"
        " their writes, and nothing to resume",
        "leave `memory` out for a paused capture, or say capture: live",
        document.positions.get(path),
        path,
    )


def semantics(document: Document) -> Iterator[Diagnostic]:
    """Yield what is wrong beyond the schema; what has the wrong shape is passed over, the schema has spoken of it."""
    value = document.value
    if not isinstance(value, dict):
        return
    disks, memory = (_mapping(value.get(key)) for key in ("disks", "memory"))
    yield from _reserved(document, value)
    yield from _bytes(document, _mapping(value.get("assume")).get("memory"), ("assume", "memory"))
    yield from _paths(document, value, disks, memory)
    yield from _memory(document, memory)
    for vdev, disk in disks.items():
        if isinstance(disk, dict):
            yield from _disk(document, ("disks", vdev), disk)
        elif disk == "exclude":
            hint = f"write {vdev}: {{method: exclude, reason: swap}}, or what it is"
            yield _say(document, "a reason is missing", _REASON, hint, ("disks", vdev))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _say(document: Document, summary: str, detail: str, hint: str, path: Path) -> Diagnostic:
    return document.say(summary, detail, hint, document.positions.get(path), path)


def _reserved(document: Document, value: dict[str, Any]) -> Iterator[Diagnostic]:
    name = value.get("snapshot")
    if isinstance(name, str) and name in ("current", ".", ".."):
        yield _say(
            document, "a reserved name", f"{name!r} has a meaning in the store", "choose another name", ("snapshot",)
        )


def _paths(
    document: Document, value: dict[str, Any], disks: dict[str, Any], memory: dict[str, Any]
) -> Iterator[Diagnostic]:
    said: dict[str, Path] = {}
    places: list[tuple[Path, Any]] = [(("store",), value.get("store")), (("memory", "file"), memory.get("file"))]
    targets = [
        (("disks", vdev, "target"), disk.get("target")) for vdev, disk in disks.items() if isinstance(disk, dict)
    ]
    for path, text in (*places, *targets):
        if not isinstance(text, str) or not text.startswith("/"):
            continue
        clean = posixpath.normpath(f"/{text.lstrip('/')}")  # POSIX lets two slashes at the front mean something else
        if clean != text:
            detail = f"{shown(text)} has `..`, `.`, or a slash too many"
            yield _say(document, "not a plain path", detail, f"use {cut(clean)}", path)
        if text in said and path[-1] != "store":
            other = ".".join(map(str, said[text]))
            yield _say(
                document,
                "two things at one path",
                f"{shown(text)} is said for {other} already",
                "give each a path of its own",
                path,
            )
        said.setdefault(text, path)
    store = value.get("store")
    for path, text in targets:
        if isinstance(store, str) and isinstance(text, str) and (store == text or store.startswith(f"{text}/")):
            yield _say(document, "the store lies inside an image", f"{shown(text)} is the image of {path[1]}",
                       "choose a folder for `store`", ("store",))  # fmt: skip


def _memory(document: Document, memory: dict[str, Any]) -> Iterator[Diagnostic]:
    for key in ("compact", "give_up"):
        if key in memory and memory.get("capture", "paused") == "paused":
            detail = f"`{key}` is about a copy that is made while the guest runs; the capture here is paused"
            hint = "leave it out, or say capture: live"
            yield _say(document, "only for a live capture", detail, hint, ("memory", key))
    limits = _mapping(memory.get("give_up"))
    after, most = limits.get("after"), limits.get("size")
    if isinstance(after, str) and _DURATION.fullmatch(after) and not seconds(after):
        detail = f"{shown(after)} is over before anything is written"
        yield _say(document, "not a possible time", detail, "write it like 10min", ("memory", "give_up", "after"))
    if isinstance(most, str) and _TIMES.fullmatch(most) and float(most[:-1]) <= 1:
        detail = f"{shown(most)}: all of the memory is written once at least, and what changed meanwhile again"
        yield _say(document, "not a possible size", detail, "write it like 3x", ("memory", "give_up", "size"))
    yield from _bytes(document, most, ("memory", "give_up", "size"))


def _disk(document: Document, path: Path, disk: dict[str, Any]) -> Iterator[Diagnostic]:
    method = disk.get("method")
    if method == "exclude" and "reason" not in disk:
        yield _say(document, "a reason is missing", _REASON, "add `reason: swap`, or what it is", path)
    if method != "exclude" and "reason" in disk:
        detail = f"`reason` goes with `method: exclude`; {_here(method)}"
        yield _say(document, "a reason for nothing", detail, "leave it out, or use `description`", (*path, "reason"))
    if method != "lvm" and "size" in disk:
        detail = f"`size` is the room of a thick LVM snapshot; {_here(method)}"
        yield _say(document, "a size for nothing", detail, "leave it out, or say method: lvm", (*path, "size"))
    form = str(disk.get("format"))
    if isinstance(method, str) and form in _FORMATS and method not in _FORMATS[form]:
        detail = f"`{method}` does not work on {form} images"
        fits = [each for each in _FORMATS[form] if each != "exclude"]
        yield _say(document, "method and format do not fit", detail, _use(*fits), (*path, "method"))
    backend = disk.get("backend")
    if method in ("internal", "external") and backend in ("phy", "tap"):
        detail = f"`{method}` is done by QEMU, which does not serve a disk on {backend}"
        fits = ["vhd"] if backend == "tap" else ["lvm", "reflink", "copy"]
        yield _say(document, "method and backend do not fit", detail, _use(*fits), (*path, "method"))
    if method == "vhd" and backend in ("qdisk", "phy"):
        detail = f"`vhd` is done by tapdisk, which does not serve a disk on {backend}"
        yield _say(document, "method and backend do not fit", detail, "leave `method` out", (*path, "method"))
    for key in ("size", "capacity"):
        yield from _bytes(document, disk.get(key), (*path, key))


def _here(method: Any) -> str:
    return f"the method here is {method}" if isinstance(method, str) else "no method is said here"


def _use(*methods: str) -> str:
    *most, last = (f"`{each}`" for each in methods)
    return f"use {', '.join(most)} or {last}" if most else f"use {last}, or leave `method` out"


def _bytes(document: Document, said: Any, path: Path) -> Iterator[Diagnostic]:
    """Hold a size against what a disk or a memory can be; text that is no size at all is passed over."""
    try:
        count = size(said) if isinstance(said, (str, int)) else 1
    except ValueError:
        return
    if not 0 < count < _MOST:
        detail = f"{shown(said)} is {'nothing' if count < 1 else 'more than 8192 PiB, which no disk and no host has'}"
        yield _say(document, "not a possible size", detail, "write it like 4GiB", path)
