"""What an observer would find on the model host, as Facts."""

from __future__ import annotations

import json

from planner import facts as f
from tests.model.disks import Inode
from tests.model.host import NAME, STORE, UUID, Host

GIB = 2**30
SIZES = {"thick": 4 * GIB, "thin": 4 * GIB}


def observe(host: Host) -> f.Facts:
    files = host.files
    by_inode = {inode.number: path for path, inode in reversed(files.names.items())}

    def node(each: object) -> f.Node:
        where = by_inode.get(each.inode.number, "gone")  # type: ignore[attr-defined]
        return f.Node(each.name, each.file, where, each.file_node)  # type: ignore[attr-defined]

    disks = []
    for vdev, kind in host.kinds.items():
        path = host.path(vdev)
        nodes: tuple[f.Node, ...] = ()
        if host.qemu and vdev in host.qemu.roots:
            root = host.qemu.root(vdev)
            by_inode[root.inode.number] = path if files.names[path] is root.inode else by_inode[root.inode.number]
            nodes = tuple(map(node, root.chain()))
        backend = "qdisk" if kind in ("qcow2", "job") else "phy"
        volume = f"vg0/lv-{vdev}" if kind in SIZES else ""
        form = "qcow2" if kind == "qcow2" else "raw"
        disks.append(f.Disk(vdev, backend, form, path, path, 4 * GIB, nodes=nodes, volume=volume))
    alive = host.domid is not None
    qemu = f.Qemu(f.Process(1452, 88001, "/usr/bin/qemu"), "7.2.22", "/run/qmp") if alive else None
    watcher = f.Process(1400, 87000, "/usr/lib/xen-4.17/bin/xl") if alive else None
    state = {"off": "off", "--p---": "paused"}.get(host.state, "running")
    domain = f.Domain(
        NAME, UUID, "pvh", state, GIB, tuple(disks), host.domid, xl_monitor=watcher, qemu=qemu  # type: ignore[arg-type]
    )  # fmt: skip
    records, current = [], {}
    for path, inode in files.names.items():
        if path.endswith("/record.json"):
            records.append(f.record_from_json(json.loads(inode.text)))
        if path == f"{STORE}/{NAME}/current":
            current = {NAME: inode.text.strip()}
    return f.Facts(
        "2026-11-23T07:34:00Z",
        f.Host("dom0", "4.17.7", ("hap",), 64 * GIB, 32 * GIB),
        (domain,),
        tuple(_image(path, inode) for path, inode in files.names.items() if inode.kind in ("raw", "qcow2")),
        tuple(
            f.Volume(
                "vg0",
                v.name,
                v.uuid,
                v.size,
                v.kind,  # type: ignore[arg-type]
                "pool" if v.kind == "thin" else "",
                v.origin,
                1.0,
                tags=tuple(v.tags),
            )
            for v in host.volumes.values()
        ),
        (f.VolumeGroup("vg0", 10**14, 10**13, 4 * 2**20),),
        (f.Filesystem("/", "ext4", 10**14, 10**13), f.Filesystem("/srv", "xfs", 10**14, 10**13, reflink=True)),
        tuple(records),
        current,
    )


def _image(path: str, inode: Inode) -> f.Image:
    tags = tuple(inode.tags)
    return f.Image(path, inode.kind, 4 * GIB, GIB, f"1:{inode.number}", backing=inode.backing, snapshots=tags)
