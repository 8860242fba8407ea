"""How names are derived from a disk and a snapshot, and what the storage back ends will not have."""

from __future__ import annotations

import hashlib
import re

from planner.facts import Domain, Facts

# lvm2's lib/misc/lvm-string.c: reserved at the start, and anywhere in a name.
_LVM_PREFIXES = ("snapshot", "pvmove")
_LVM_PARTS = ("_cdata", "_cmeta", "_corig", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
              "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig")  # fmt: skip
_LVM_NAME = re.compile(r"[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*")
# A device-mapper name has 127 characters; in it hyphens are doubled and a hyphen joins group and volume.
_DEVICE_MAPPER = 127


def frozen(path: str, snapshot: str) -> str:
    """Return the name under which an image at `path` is kept for a snapshot: beside it."""
    return f"{path}.{snapshot}"


def new(path: str, snapshot: str, facts: Facts) -> str:
    """Return the passing name of an image that is about to take over `path`; no snapshot's name holds a tilde.

    Never one that a QEMU still knows a file by: when it next changes such a node between reading and writing it opens
    that name again, and would get the new image (seen on QEMU 7.2 and 10.0).
    """
    name, number = f"{path}.{snapshot}~new", 2
    while name in facts.known_files:
        name, number = f"{path}.{snapshot}~new{number}", number + 1
    return name


def node(domain: Domain, snapshot: str, vdev: str) -> str:
    """Return a QEMU node name: at most 31 characters, beginning with a letter (QEMU's block.c).

    A name that the domain's QEMU has in use is passed over: the overlay of a snapshot of the same name, deleted since,
    may still be the active image.
    """
    known = {node.name for disk in domain.disks for node in disk.nodes}
    name, number = f"ds-{_short(domain, snapshot, vdev)}-{vdev}", 2
    while name in known:
        name, number = f"ds-{_short(domain, f'{snapshot}/{number}', vdev)}-{vdev}", number + 1
    return name


def job(domain: Domain, snapshot: str, vdev: str) -> str:
    """Return a QEMU job id."""
    return f"domsnap-{_short(domain, snapshot, vdev)}-{vdev}"


def lvm_tag(domain: Domain, snapshot: str) -> str:
    """Return the LVM tag that proves a volume to be part of this snapshot."""
    return f"domsnap.{domain.name}.{snapshot}"


def volume(origin: str, snapshot: str) -> str:
    return f"{origin}-{snapshot}"


def lvm_objection(vg: str, name: str) -> str:
    """Say why LVM would not have this name, "" if it would."""
    if not _LVM_NAME.fullmatch(name):
        return "LVM names hold only letters, digits and + _ . -"
    if name.startswith(_LVM_PREFIXES):
        return f"LVM keeps names that begin with {' or '.join(map(repr, _LVM_PREFIXES))} for itself"
    if part := next((part for part in _LVM_PARTS if part in name), ""):
        return f"LVM keeps names with {part!r} in them for itself"
    if len(vg) + len(name) + (vg + name).count("-") + 1 > _DEVICE_MAPPER - len("-real"):
        return f"with its group it is longer than the {_DEVICE_MAPPER} characters of a device-mapper name"
    return ""


def _short(domain: Domain, snapshot: str, vdev: str) -> str:
    return hashlib.sha256(f"{domain.uuid}/{snapshot}/{vdev}".encode()).hexdigest()[:10]
