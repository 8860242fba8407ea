"""What was observed of a host: data only. `schema/facts.schema.json` describes the same document for others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

State = Literal["running", "paused", "suspended", "shut-down", "rebooting", "crashed", "dying", "shutting-down", "off"]
VolumeKind = Literal["linear", "striped", "thin", "thin-pool", "thick-snapshot", "other"]


@dataclass(frozen=True, slots=True)
class Host:
    """Memory in bytes; `save_rate` the bytes a second that `xl save` was last seen to write, 0 if never seen."""

    name: str
    xen: str
    virt_caps: tuple[str, ...]
    memory_total: int
    memory_free: int
    qemu_img: str = ""
    lvm: str = ""
    zstd: str = ""
    save_rate: int = 0

    @property
    def xen_version(self) -> tuple[int, int]:
        major, _, rest = self.xen.partition(".")  # 4.20.2, 4.20-unstable
        minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one: `started` is field 22 of /proc/PID/stat, in clock ticks."""

    pid: int
    started: int
    exe: str


@dataclass(frozen=True, slots=True)
class Qemu:
    """A domain's device model; `monitor` is the path of its second QMP socket (qmp-libxenstat-DOMID)."""

    process: Process
    version: str
    monitor: str
    status: str = "running"
    chrooted: bool = False
    jobs: tuple[str, ...] = ()

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, (0,) for a QEMU whose monitor did not answer."""
        return tuple(int(part) for part in self.version.split(".") if part.isdecimal()) or (0,)


@dataclass(frozen=True, slots=True)
class Node:
    """One image in QEMU's graph: QEMU's name for it, the file name QEMU knows (that of the moment it opened it), the
    path where that same file is found today, and QEMU's name for the node that is the file itself ("": not known)."""

    name: str
    file: str
    path: str
    file_node: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of a domain, with the backend that serves it now.

    target: as the configuration names it. path: the same, symlinks resolved. capacity: bytes, as the guest sees it.
    device: QEMU's name of the device or "" (PV disks have none). nodes: the chain in QEMU's graph, active image first.
    volume: "vg/lv" if the disk is a logical volume.
    """

    vdev: str
    backend: str
    format: str
    target: str
    path: str
    capacity: int
    writable: bool = True
    cdrom: bool = False
    backend_domain: int = 0
    device: str = ""
    nodes: tuple[Node, ...] = ()
    volume: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain, running or not: memory in bytes; `domid` is None when it is off.

    xl_monitor: the xl process that restarts the domain on reboot. devices: what no snapshot can hold (PCI, vTPM).
    config: path of the file it was created from, "" if not known. starting: an HVM guest may yet go over from emulated
    drives to those of its PV drivers.
    """

    name: str
    uuid: str
    type: Literal["pv", "pvh", "hvm"]
    state: State
    memory: int
    disks: tuple[Disk, ...]
    domid: int | None = None
    vnuma: bool = False
    devices: tuple[str, ...] = ()
    xl_monitor: Process | None = None
    qemu: Qemu | None = None
    config: str = ""
    starting: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image in one of the directories searched. Sizes in bytes; `backing` is absolute, "" for none; `snapshots`
    the tags of its internal snapshots; `inode` is "device:inode"."""

    path: str
    format: str
    capacity: int
    allocated: int
    inode: str
    cluster_size: int = 65536
    backing: str = ""
    backing_format: str = ""
    snapshots: tuple[str, ...] = ()
    corrupt: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """A logical volume. Size in bytes; `data_percent` as lvs says it, None where it has none."""

    vg: str
    name: str
    uuid: str
    size: int
    kind: VolumeKind
    pool: str = ""
    origin: str = ""
    data_percent: float | None = None
    metadata_percent: float | None = None
    active: bool = True
    invalid: bool = False
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.vg}/{self.name}"


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """Sizes in bytes."""

    name: str
    size: int
    free: int
    extent: int


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A mounted filesystem; sizes in bytes, `reflink` whether it shares blocks between files."""

    mount: str
    type: str
    size: int
    free: int
    reflink: bool = False
    hard_links: bool = True


@dataclass(frozen=True, slots=True)
class Held:
    """What a snapshot holds of one disk.

    path, capacity, format, backend: the disk's own at that time. holder: where its content is - the frozen image, the
    image with the tag, the file, "vg/lv". tag: of an internal snapshot, or the LVM tag that proves the volume ours.
    """

    vdev: str
    method: str
    backend: str
    format: str
    path: str
    capacity: int
    holder: str = ""
    tag: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A snapshot of the store. `memory` is the path of its memory image, "" for a domain that was off; `memory_size`
    bytes of domain memory. `folder` is where the record lies. shrink: what is made of the memory image once the
    snapshot is complete, "" for nothing; shrunk: that has been done, and `memory` is what was made."""

    domain: str
    uuid: str
    type: str
    snapshot: str
    folder: str
    disks: tuple[Held, ...]
    taken: str
    state: Literal["complete", "deleting"] = "complete"
    description: str = ""
    parent: str = ""
    capture: str = "paused"
    memory: str = ""
    memory_size: int = 0
    shrink: Literal["", "compact", "zst"] = ""
    shrunk: bool = False
    xen: str = ""
    spec: str = ""

    @property
    def compressed(self) -> bool:
        """Whether the memory image has to be decompressed before xl can read it."""
        return self.shrunk and self.shrink == "zst"

    @property
    def images(self) -> tuple[str, ...]:
        """The paths that are the memory image's at one time or another: as it came, then as it is made smaller."""
        if not self.memory:
            return ()
        ending = f".{self.shrink}" if self.shrink else ""
        first = self.memory.removesuffix(ending) if self.shrunk else self.memory
        return (first, f"{first}{ending}") if ending else (first,)


@dataclass(frozen=True)
class Facts:
    """One host at one moment. `observed` is an RFC 3339 time; `current` maps a domain to the snapshot it is on."""

    observed: str
    host: Host
    domains: tuple[Domain, ...]
    images: tuple[Image, ...] = ()
    volumes: tuple[Volume, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    records: tuple[Record, ...] = ()
    current: Mapping[str, str] | None = None

    @cached_property
    def _domains(self) -> dict[str, Domain]:
        return {domain.name: domain for domain in self.domains}

    @cached_property
    def _images(self) -> dict[str, Image]:
        return {image.path: image for image in self.images}

    @cached_property
    def _children(self) -> dict[str, list[Image]]:
        children: dict[str, list[Image]] = {}
        for image in self.images:
            if image.backing:
                children.setdefault(image.backing, []).append(image)
        return children

    @cached_property
    def _volumes(self) -> dict[str, Volume]:
        return {volume.id: volume for volume in self.volumes}

    @cached_property
    def _snapshots(self) -> dict[tuple[str, str], list[Volume]]:
        snapshots: dict[tuple[str, str], list[Volume]] = {}
        for volume in self.volumes:
            if volume.origin:
                snapshots.setdefault((volume.vg, volume.origin), []).append(volume)
        return snapshots

    @cached_property
    def _records(self) -> dict[str, list[Record]]:
        records: dict[str, list[Record]] = {}
        for record in self.records:
            records.setdefault(record.domain, []).append(record)
        return records

    @cached_property
    def _users(self) -> dict[str, list[tuple[Domain, Disk]]]:
        users: dict[str, list[tuple[Domain, Disk]]] = {}
        for domain in self.domains:
            for disk in domain.disks:
                for path in {disk.path, *(node.path for node in disk.nodes)}:
                    users.setdefault(path, []).append((domain, disk))
        return users

    @cached_property
    def known_files(self) -> frozenset[str]:
        """The names under which the host's QEMUs know the image files they have open; some are other files' by now."""
        return frozenset(node.file for domain in self.domains for disk in domain.disks for node in disk.nodes)

    def domain(self, name: str) -> Domain | None:
        return self._domains.get(name)

    def image(self, path: str) -> Image | None:
        return self._images.get(path)

    def children(self, path: str) -> list[Image]:
        """Return the images whose backing file is `path`."""
        return self._children.get(path, [])

    def chain(self, path: str) -> Iterator[Image]:
        """Yield the image at `path`, then its backing images; ends at one that is not among the facts, or at a loop."""
        seen: set[str] = set()
        while path and path not in seen and (image := self.image(path)):
            seen.add(path)
            yield image
            path = image.backing

    def volume(self, name: str) -> Volume | None:
        """Return the logical volume "vg/lv"."""
        return self._volumes.get(name)

    def snapshots_of(self, volume: Volume) -> list[Volume]:
        """Return the snapshots, thick and thin, of a logical volume."""
        return self._snapshots.get((volume.vg, volume.name), [])

    def volume_group(self, name: str) -> VolumeGroup | None:
        return next((group for group in self.volume_groups if group.name == name), None)

    def records_of(self, domain: str) -> list[Record]:
        return self._records.get(domain, [])

    def record(self, domain: str, snapshot: str) -> Record | None:
        return next((record for record in self.records_of(domain) if record.snapshot == snapshot), None)

    def users(self, path: str) -> list[tuple[Domain, Disk]]:
        """Return the disks whose path, or some image of whose chain in QEMU, is `path`."""
        return self._users.get(path, [])

    def filesystem(self, path: str) -> Filesystem | None:
        """Return the filesystem that holds `path`: the one with the longest mount point above it."""
        best = None
        for filesystem in self.filesystems:
            mount = filesystem.mount.rstrip("/")
            if (path == mount or path.startswith(mount + "/")) and (
                best is None or len(mount) > len(best.mount.rstrip("/"))
            ):
                best = filesystem
        return best


def _node(document: Mapping[str, Any]) -> Node:
    return Node(**document)


def _disk(document: Mapping[str, Any]) -> Disk:
    return Disk(**{**document, "nodes": tuple(map(_node, document.get("nodes", ())))})


def _qemu(document: Mapping[str, Any]) -> Qemu:
    return Qemu(**{**document, "process": Process(**document["process"]), "jobs": tuple(document.get("jobs", ()))})


def _domain(document: Mapping[str, Any]) -> Domain:
    said: dict[str, Any] = dict(document)
    said["disks"] = tuple(map(_disk, said["disks"]))
    said["devices"] = tuple(said.get("devices", ()))
    if said.get("xl_monitor"):
        said["xl_monitor"] = Process(**said["xl_monitor"])
    if said.get("qemu"):
        said["qemu"] = _qemu(said["qemu"])
    return Domain(**said)


def record_from_json(document: Mapping[str, Any]) -> Record:
    """Return a record; the document must be valid against `record.schema.json`, plus the `folder` it was found in."""
    said = {key: value for key, value in document.items() if key != "version"}
    said["disks"] = tuple(Held(**held) for held in said["disks"])
    return Record(**said)


def facts_from_json(document: Mapping[str, Any]) -> Facts:
    """Return the facts of a document that is valid against `facts.schema.json`."""
    host = dict(document["host"])
    host["virt_caps"] = tuple(host["virt_caps"])

    def each(key: str) -> Any:
        return document.get(key, ())

    return Facts(
        observed=document["observed"],
        host=Host(**host),
        domains=tuple(map(_domain, each("domains"))),
        images=tuple(Image(**{**image, "snapshots": tuple(image.get("snapshots", ()))}) for image in each("images")),
        volumes=tuple(Volume(**{**volume, "tags": tuple(volume.get("tags", ()))}) for volume in each("volumes")),
        volume_groups=tuple(VolumeGroup(**group) for group in each("volume_groups")),
        filesystems=tuple(Filesystem(**filesystem) for filesystem in each("filesystems")),
        records=tuple(map(record_from_json, each("records"))),
        current=dict(document.get("current") or {}),
    )
