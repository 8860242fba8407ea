"""A small host to plan on: a PVH domain with one disk of each kind, built by hand so that a test can bend any fact."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from planner import create
from planner.draft import Draft
from planner.facts import (
    Disk,
    Domain,
    Facts,
    Filesystem,
    Host,
    Image,
    Node,
    Process,
    Qemu,
    Record,
    Volume,
    VolumeGroup,
)
from schema.spec import Spec

GIB = 2**30
UUID = "bbe9b839-51d1-4ac0-8ea2-25778e7005b1"


def qcow2(vdev: str = "xvda", path: str = "/srv/vm/web01.qcow2", **other: Any) -> Disk:
    nodes = (Node(f"{vdev}-qcow2", path, path, "#block0"),)
    return replace(Disk(vdev, "qdisk", "qcow2", path, path, 10 * GIB, nodes=nodes), **other)


def raw(vdev: str = "xvdb", path: str = "/srv/vm/web01-data.raw", **other: Any) -> Disk:
    return replace(Disk(vdev, "phy", "raw", path, path, 4 * GIB), **other)


def raw_on_qemu(vdev: str = "xvde", path: str = "/srv/vm/web01-log.raw", **other: Any) -> Disk:
    nodes = (Node(f"{vdev}-raw", path, path),)
    return replace(Disk(vdev, "qdisk", "raw", path, path, 2 * GIB, nodes=nodes), **other)


def volume(vdev: str, name: str, size: int = 4 * GIB, **other: Any) -> Disk:
    path = f"/dev/vg0/{name}"
    return replace(Disk(vdev, "phy", "raw", path, path, size, volume=f"vg0/{name}"), **other)


def domain(*disks: Disk, **other: Any) -> Domain:
    monitor = "/var/run/xen/qmp-libxenstat-7"
    qemu = Qemu(Process(1452, 88001, "/usr/libexec/xen-qemu-system-i386"), "7.2.22", monitor)
    watcher = Process(1400, 87000, "/usr/lib/xen-4.17/bin/xl")
    there = Domain("web01", UUID, "pvh", "running", GIB, disks or all_kinds(), 7, xl_monitor=watcher, qemu=qemu)
    return replace(there, **other)


def all_kinds() -> tuple[Disk, ...]:
    return (qcow2(), raw(), volume("xvdc", "db"), volume("xvdd", "cache"), raw_on_qemu())


def facts(*domains: Domain, **other: Any) -> Facts:
    domains = domains or (domain(),)
    images: list[Image] = []
    for each in domains:
        for index, disk in enumerate(each.disks):
            if not disk.volume and disk.path:
                images.append(
                    Image(disk.path, disk.format, disk.capacity, disk.capacity // 2, f"1:{len(images) + index}")
                )
    there = Facts(
        observed="2026-11-23T07:34:00Z",
        host=Host("dom0", "4.17.7", ("pv", "hvm", "hap"), 32 * GIB, 16 * GIB, "7.2.22", "2.03.16", "1.5.4"),
        domains=domains,
        images=tuple(images),
        volumes=(
            Volume("vg0", "db", "4nFT6i", 4 * GIB, "linear"),
            Volume("vg0", "cache", "LXkOWO", 4 * GIB, "thin", "pool", data_percent=10.0),
            Volume("vg0", "pool", "EXTEgl", 20 * GIB, "thin-pool", data_percent=10.0, metadata_percent=5.0),
        ),
        volume_groups=(VolumeGroup("vg0", 100 * GIB, 60 * GIB, 4 * 2**20),),
        filesystems=(
            Filesystem("/", "ext4", 50 * GIB, 40 * GIB),
            Filesystem("/srv", "xfs", 500 * GIB, 300 * GIB, reflink=True),
        ),
        current={},
    )
    return replace(there, **other)


def spec(snapshot: str = "before-upgrade", **other: Any) -> Spec:
    return replace(Spec("web01", snapshot), **other)


def taken(spec: Spec, there: Facts) -> Facts:
    """Return the facts after the snapshot that `spec` declares was taken: what a host would show then."""
    plan_draft = Draft(
        "create",
        spec,
        there,
        there.domains[0],
        f"{spec.store}/web01/{spec.snapshot}",
        live=spec.memory.capture == "live",
    )
    holds = create.disks(plan_draft)
    made = create.record(plan_draft, spec.snapshot, holds, f"{plan_draft.folder}/memory")
    if made.shrink:
        made = replace(made, memory=made.images[-1], shrunk=True)
    images = {image.path: image for image in there.images}
    volumes = list(there.volumes)
    disks = {disk.vdev: disk for disk in there.domains[0].disks}
    for held in holds:
        disk = disks[held.vdev]
        image = images.get(disk.path)
        match held.method:
            case "internal" if image:
                images[image.path] = replace(image, snapshots=(*image.snapshots, held.tag))
            case "external" | "vhd" if image:
                frozen = replace(image, path=held.holder)
                images[held.holder] = frozen
                images[image.path] = replace(image, backing=held.holder, inode=f"9:{len(images)}", snapshots=())
                old = [replace(node, path=held.holder) if node is disk.nodes[0] else node for node in disk.nodes]
                new = Node(f"ds-{spec.snapshot}-{held.vdev}", f"{disk.path}.{spec.snapshot}~new", disk.path, "#block1")
                disks[held.vdev] = replace(disk, nodes=(new, *old) if old else ())
            case "reflink" | "copy" if image:
                images[held.holder] = replace(image, path=held.holder, inode=f"9:{len(images)}")
            case "lvm":
                origin = there.volume(disk.volume)
                vg, _, name = held.holder.partition("/")
                assert origin
                thin = origin.kind == "thin"
                kind = "thin" if thin else "thick-snapshot"
                size = origin.size if thin else 4116 * 2**20
                volumes.append(
                    Volume(vg, name, f"u{len(volumes)}", size, kind, origin.pool, origin.name, 0.0, tags=(held.tag,))  # type: ignore[arg-type]
                )
    domain_now = replace(there.domains[0], disks=tuple(disks[disk.vdev] for disk in there.domains[0].disks))
    return replace(
        there,
        domains=(domain_now, *there.domains[1:]),
        images=tuple(images.values()),
        volumes=tuple(volumes),
        records=(*there.records, made),
        current={"web01": spec.snapshot},
    )


def off(there: Facts) -> Facts:
    """Return the facts after the domain was shut down."""
    domain_now = there.domains[0]
    disks = tuple(replace(disk, nodes=()) for disk in domain_now.disks)
    gone = replace(domain_now, state="off", domid=None, qemu=None, xl_monitor=None, disks=disks)
    return replace(there, domains=(gone, *there.domains[1:]))


def document(there: Facts) -> dict[str, Any]:
    """Return the facts document of which `there` is the value: nothing in it that stands at its default."""
    return {"version": 1, **_said(there)}


def _said(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_said(item) for item in value]
    if isinstance(value, Record):
        return {"version": 1, **{item.name: _said(getattr(value, item.name)) for item in fields(value)}}
    if is_dataclass(value):
        return {
            item.name: _said(getattr(value, item.name))
            for item in fields(value)
            if item.default is MISSING or getattr(value, item.name) != item.default
        }
    return value
