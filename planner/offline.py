"""Facts taken from a spec that says everything itself, for a plan made away from the host."""

from __future__ import annotations

from collections.abc import Iterator

from planner.facts import Disk, Domain, Facts, Host, Image, Node, Process, Qemu, Volume
from schema.diagnostic import Diagnostic, Refused
from schema.spec import Disk as Said
from schema.spec import Spec

# QEMU's name of a PV disk's node is VDEV-DRIVER since 4.0 (hw/block/xen-block.c); aio's driver is raw, vhd's is vpc.
_DRIVERS = {"qcow2": "qcow2", "raw": "raw", "vhd": "vpc"}
_NEEDED = ("target", "format", "backend", "capacity")


def offline_facts(spec: Spec) -> Facts:
    """Return the facts that a spec states; raises Refused naming everything that it leaves unsaid.

    Only a plan that creates a snapshot can be made so: what other snapshots hold is known to the host alone. A logical
    volume is taken for a thick one if the spec says the `size` of its snapshot, for a thin one if not.
    """
    missing = [*_unsaid(spec)]
    if spec.assume is None or missing:
        raise Refused(missing)
    assume = spec.assume
    served = any(disk.backend == "qdisk" for disk in spec.disks)
    monitor = f"/var/run/xen/qmp-libxenstat-{assume.domid}"
    domain = Domain(
        name=spec.domain,
        uuid=assume.uuid,
        type=assume.type,
        state="running",
        memory=assume.memory,
        disks=tuple(_disk(disk) for disk in spec.disks),
        domid=assume.domid,
        qemu=Qemu(Process(0, 0, ""), assume.qemu, monitor) if served or assume.type == "hvm" else None,
    )
    images = tuple(
        Image(disk.path, disk.format, disk.capacity, disk.capacity, "") for disk in domain.disks if not disk.volume
    )
    host = Host("a host not observed", assume.xen, (), 0, 0)
    return Facts("", host, (domain,), images, tuple(_volumes(domain, spec)))


def _volumes(domain: Domain, spec: Spec) -> Iterator[Volume]:
    sizes = {disk.vdev: disk.size for disk in spec.disks}
    for disk in domain.disks:
        if disk.volume:
            vg, _, name = disk.volume.partition("/")
            yield Volume(vg, name, "", disk.capacity, "linear" if sizes[disk.vdev] else "thin")


def _disk(disk: Said) -> Disk:
    target, format_, backend = disk.target or "", disk.format or "", disk.backend or ""
    name = f"{disk.vdev}-{_DRIVERS.get(format_, format_)}"
    nodes = (Node(name, target, target),) if backend == "qdisk" else ()
    parts = target.split("/")
    volume = f"{parts[2]}/{parts[3]}" if target.startswith("/dev/") and len(parts) == 4 and parts[2] != "mapper" else ""
    return Disk(disk.vdev, backend, format_, target, target, disk.capacity or 0, nodes=nodes, volume=volume)


def _unsaid(spec: Spec) -> list[Diagnostic]:
    def say(detail: str, hint: str, *path: str | int) -> Diagnostic:
        where = spec.where(*path)
        text = spec.lines[where.line - 1] if where and where.line <= len(spec.lines) else ""
        return Diagnostic("not enough said for an offline plan", detail, hint, where, ".".join(map(str, path)), text)

    said = []
    if spec.assume is None:
        said.append(say("`assume` is missing", "say assume: {xen, qemu, domid, uuid, type, memory}", "assume"))
    if not spec.disks:
        said.append(say("`disks` is missing", "name every disk of the domain with its method", "disks"))
    for disk in spec.disks:
        unsaid = [key for key in _NEEDED if getattr(disk, key) is None]
        if unsaid:
            keys = ", ".join(f"`{key}`" for key in unsaid)
            said.append(
                say(
                    f"{disk.vdev} leaves out {keys}",
                    "every disk says target, format, backend and capacity",
                    "disks",
                    disk.vdev,
                )
            )
    return said
