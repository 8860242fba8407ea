"""What `xenstore-ls -f` prints: the backends that serve each disk now, device models, requests to shut down.

Only what dom0 alone may write is trusted: /libxl and the backends' directories. A guest writes freely in parts of its
own directory, so of that only the request to shut down is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from executor.parse.unreadable import unreadable

LS = "xenstore-ls -f"

_ENTRY = re.compile(r'(?P<path>/[A-Za-z0-9_/@:-]*) = "(?P<value>.*)"(?:   \(.*\))?')
# tools/libs/util or xenstore/xenstore_client.c, sanitise_value: C escapes, three octal digits below 010, else \xNN.
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|(.))")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_BACKEND = re.compile(r"/local/domain/([0-9]+)/backend/([a-z0-9_]+)/[0-9]+/[0-9]+")
_DEVICE = re.compile(r"/libxl/([0-9]+)/device/vbd/([0-9]+)(?:/|$)")
_KINDS = {"qdisk": "qdisk", "vbd": "phy", "vbd3": "tap"}


@dataclass(frozen=True, slots=True)
class Backend:
    """The backend of one disk. params: FORMAT:PATH for qdisk, else the path. capacity: bytes, 0 while it is not known.

    connected: the guest's own driver uses it (state 4); an HVM guest may still be on the emulated drive.
    """

    vdev: str
    kind: str
    domain: int
    params: str
    writable: bool
    cdrom: bool
    capacity: int
    connected: bool

    @property
    def path(self) -> str:
        return self.params.partition(":")[2] if self.kind == "qdisk" else self.params

    @property
    def format(self) -> str:
        """The format as `params` names it; libxl writes aio for raw (light/libxl_device.c)."""
        name = self.params.partition(":")[0] if self.kind == "qdisk" else "aio"
        return {"aio": "raw"}.get(name, name)


def entries(text: str) -> dict[str, str]:
    """Return path -> value for the whole store. Raises Refused at a line that is no entry."""
    said = {}
    for line in text.splitlines():
        found = _ENTRY.fullmatch(line)
        if found is None:
            raise unreadable(LS, line, 'a line that is not PATH = "VALUE"')
        said[found["path"]] = _ESCAPE.sub(_unescape, found["value"])
    return said


def _unescape(found: re.Match[str]) -> str:
    hexadecimal, octal, letter = found.groups()
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    return chr(int(octal, 8)) if octal else _LETTERS.get(letter, letter)


def disks(store: Mapping[str, str]) -> dict[int, list[int]]:
    """Return the numbers of each domain's disks, in their order, by domid."""
    found: dict[int, set[int]] = {}
    for path in store:
        if path.startswith("/libxl/") and (device := _DEVICE.match(path)):
            found.setdefault(int(device[1]), set()).add(int(device[2]))
    return {domid: sorted(numbers) for domid, numbers in found.items()}


def backends(store: Mapping[str, str], domid: int, numbers: Iterable[int]) -> Iterator[Backend]:
    """Yield the disks of a domain with these numbers as libxl has them in the store."""
    for number in numbers:
        yield _backend(store, f"/libxl/{domid}/device/vbd/{number}")


def _backend(store: Mapping[str, str], device: str) -> Backend:
    where = store.get(f"{device}/backend", "")
    found = _BACKEND.fullmatch(where)
    if found is None:
        raise unreadable(LS, f'{device}/backend = "{where}"', "not the path of a backend")

    def get(key: str, fallback: str | None = None) -> str:
        value = store.get(f"{where}/{key}", store.get(f"{device}/{key}", fallback))
        if value is None:
            raise unreadable(LS, where, f"the backend has no {key!r}")
        return value

    kind = _KINDS.get(found[2], found[2])
    sectors, size = get("sectors", "0"), get("sector-size", "512")
    return Backend(
        vdev=get("dev"),
        kind="tap" if get("type", "") == "tap" else kind,
        domain=int(found[1]),
        params=get("params"),
        writable=get("mode").startswith("w"),
        cdrom=get("device-type", "disk") == "cdrom",
        capacity=int(sectors) * int(size) if sectors.isdecimal() and size.isdecimal() else 0,
        connected=get("state", "") == "4",
    )


def device_model(store: Mapping[str, str], domid: int) -> int | None:
    """Return the process number of the domain's QEMU, None if it has none."""
    said = store.get(f"/local/domain/{domid}/image/device-model-pid", "")
    return int(said) if said.isdecimal() else None


def asked_to_shut_down(store: Mapping[str, str], domid: int) -> bool:
    """Whether the guest was asked to power off, reboot or suspend and has not answered yet."""
    return bool(store.get(f"/local/domain/{domid}/control/shutdown"))
