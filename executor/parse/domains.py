"""The domains of a host, put together from xl, xenstore, QEMU, LVM and the images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from executor.outputs import Outputs, Running
from executor.parse import lvm, qmp, xenstore, xl
from executor.parse.unreadable import unreadable
from planner.facts import Disk, Domain, Image, Node, Process, Qemu, Volume

MONITORS = "/var/run/xen"  # XEN_RUN_DIR of every distribution (m4/paths.m4)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
# What QEMU calls the emulated drives of an HVM guest: of the first disks, be they called hd or xvd (seen on Xen 4.20:
# xvda is ide0-hd0), four by IDE or six by AHCI, and of sd disks (libxl's light/libxl_dm.c; QEMU's blockdev.c).
_IDE = ("ide0-hd0", "ide0-hd1", "ide1-hd0", "ide1-hd1")
_EMULATED = {
    **{f"{bus}{letter}": (*_IDE[number : number + 1], f"ahcidisk-{number}") for bus in ("hd", "xvd")
       for number, letter in enumerate("abcdef")},
    **{f"sd{letter}": (f"scsi0-hd{number}",) for number, letter in enumerate("abcd")},
}  # fmt: skip
# A boot loader writes a few sectors (GRUB its environment, Windows' its boot status), an operating system much more.
_FEW = 32


def domains(outputs: Outputs, images: Mapping[str, Image], volumes: tuple[Volume, ...]) -> Iterator[Domain]:
    """Yield every domain but dom0. Raises Refused naming the command whose output cannot be read."""
    store = xenstore.entries(outputs.xenstore)
    numbers = xenstore.disks(store)
    configured = {config.domid: config for config in xl.configurations(outputs.xl_list_long)}
    for row in xl.rows(outputs.xl_list):
        config = configured.get(row.domid)
        if row.domid == 0 or (config is None and row.state == "dying"):  # a dying one may go between the two calls
            continue
        if config is None:
            raise unreadable(xl.LONG, outputs.xl_list_long, f"no domain {row.domid}, which `{xl.LIST}` shows")
        if config.type not in ("pv", "pvh", "hvm"):
            raise unreadable(xl.LONG, config.type, f"an unknown type of domain ({config.name})")
        asked = row.state == "running" and xenstore.asked_to_shut_down(store, row.domid)
        backends = xenstore.backends(store, row.domid, numbers.get(row.domid, ()))
        disks = tuple(_disks(outputs, config, backends, images, volumes))
        process = _device_model(outputs, config, xenstore.device_model(store, row.domid))
        yield Domain(
            name=config.name,
            uuid=row.uuid or store.get(f"/local/domain/{row.domid}/vm", "").removeprefix("/vm/"),
            type=config.type,  # type: ignore[arg-type]  # one of the three literals, as was just proved
            state="shutting-down" if asked else row.state,
            memory=config.memory,
            disks=disks,
            domid=row.domid,
            vnuma=config.vnuma,
            devices=config.devices,
            xl_monitor=xl_monitor(outputs.processes, config.name),
            qemu=_qemu(outputs, config, process),
            starting=_starting(outputs, config, process, disks),
        )


def xl_monitor(processes: tuple[Running, ...], name: str) -> Process | None:
    """Return the process that restarts the domain when it reboots: the `xl` whose standard output is the domain's log.

    Seen on 4.17 and 4.20: /var/log/xen/xl-NAME.log, which logrotate may have given another name since.
    """
    log = re.compile(rf"/var/log/xen/xl-{re.escape(name)}\.log(\.[0-9]+)?( \(deleted\))?")
    found = [p for p in processes if _program(p) == "xl" and log.fullmatch(p.stdout)]
    newest = max(found, key=lambda process: process.started, default=None)
    return Process(newest.pid, newest.started, newest.exe) if newest else None


def _program(process: Running) -> str:
    """Return the name of its program, also when an upgrade has replaced the file since."""
    return process.exe.removesuffix(" (deleted)").rpartition("/")[2]


def monitor(process: Running, domid: int) -> str:
    """Return the path of a device model's second monitor: as it was told it, if that is one of this domain."""
    name = f"qmp-libxenstat-{domid}"
    told = process.monitor
    return told if told.startswith("/") and told.endswith(f"/{name}") else f"{MONITORS}/{name}"


def _device_model(outputs: Outputs, config: xl.Configuration, pid: int | None) -> Running | None:
    process = next((process for process in outputs.processes if process.pid == pid), None)
    if pid is not None and process is None:
        raise unreadable(xenstore.LS, str(pid), f"the device model of {config.name} is no process of this host")
    return process


def _qemu(outputs: Outputs, config: xl.Configuration, process: Running | None) -> Qemu | None:
    if process is None:
        return None
    who = Process(process.pid, process.started, process.exe)
    answers = outputs.qmp.get(config.domid)
    if answers is None:  # it does not answer: its disks have no nodes then, and no plan relies on it
        return Qemu(who, "", "", "unreachable", config.dm_restrict)
    where = monitor(process, config.domid)
    return Qemu(who, qmp.version(answers), where, qmp.status(answers), config.dm_restrict, qmp.jobs(answers))


def _starting(outputs: Outputs, config: xl.Configuration, process: Running | None, disks: tuple[Disk, ...]) -> bool:
    """Say whether the guest uses emulated drives and may yet go over to those of its PV drivers, as it does when it
    starts: it has hardly written through them, and was not restored."""
    emulated = {disk.device for disk in disks if disk.device}
    answers = outputs.qmp.get(config.domid, _NOTHING)
    if not emulated or qmp.WRITES not in answers or (process and process.restored):
        return False
    return qmp.writes(answers, emulated) < _FEW


def _disks(
    outputs: Outputs,
    config: xl.Configuration,
    backends: Iterable[xenstore.Backend],
    images: Mapping[str, Image],
    volumes: tuple[Volume, ...],
) -> Iterator[Disk]:
    """Yield the disks that have a backend now; the configuration adds what the store does not say."""
    configured = {disk.vdev: disk for disk in config.disks}
    answers = outputs.qmp.get(config.domid, _NOTHING)
    drives = tuple(qmp.drives(answers)) if answers else ()
    backends = tuple(backends)
    vdevs = {backend.vdev for backend in backends}
    for backend in backends:
        said = configured.get(backend.vdev)
        volume = _volume(volumes, backend.path, outputs.links.get(backend.path, ""))
        path = lvm.path(volume) if volume else outputs.links.get(backend.path, backend.path)
        drive = _drive(drives, backend, vdevs) if backend.kind == "qdisk" else None
        image = images.get(path)
        sizes = (drive.capacity if drive else 0, backend.capacity, volume.size if volume else 0)
        yield Disk(
            vdev=backend.vdev,
            backend=backend.kind,
            format=said.format if said else backend.format,
            target=said.target if said else backend.path,
            path=path,
            capacity=next(filter(None, sizes), image.capacity if image else 0),
            writable=backend.writable,
            cdrom=backend.cdrom,
            backend_domain=backend.domain,
            device=drive.device if drive else "",
            nodes=tuple(_nodes(drive, path, images)) if drive else (),
            volume=volume.id if volume else "",
        )


def _volume(volumes: tuple[Volume, ...], *names: str) -> Volume | None:
    return next((each for each in volumes if {lvm.path(each), lvm.mapper_path(each)} & set(names)), None)


def _drive(drives: tuple[qmp.Drive, ...], backend: xenstore.Backend, vdevs: set[str]) -> qmp.Drive | None:
    """Return the drive through which the guest uses the disk now: an HVM guest has both until its drivers are up.

    vdevs: of all disks of the domain. Beside an hda an xvda is not emulated.
    """
    plain = next((drive for drive in drives if not drive.device and drive.vdev == backend.vdev), None)
    in_its_place = backend.vdev.replace("xvd", "hd")
    hidden = in_its_place != backend.vdev and in_its_place in vdevs
    names = () if hidden else _EMULATED.get(backend.vdev, ())
    emulated = next((drive for drive in drives if drive.device in names), None)
    return plain if emulated is None or (plain and backend.connected) else emulated


def _nodes(drive: qmp.Drive, path: str, images: Mapping[str, Image]) -> Iterator[Node]:
    """Yield QEMU's chain beside the chain on disk: QEMU goes on calling a file by the name it had when it was opened.

    Where the two are not equally long the files are taken to have the names that QEMU knows.
    """
    on_disk = []
    while path in images and path not in on_disk:
        on_disk.append(path)
        path = images[path].backing
    known = [file for _, file, _ in drive.nodes]
    today = on_disk if len(on_disk) == len(known) else known
    for (name, file, file_node), where in zip(drive.nodes, today, strict=True):
        yield Node(name, file, where, file_node)
