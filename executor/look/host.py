"""Asks a live host all that the facts are made of: one call of each tool for the whole host, however many domains."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime

from executor.look.ask import ask, find, refuse
from executor.look.images import Images, images
from executor.look.listing import Listing, listing
from executor.look.monitors import PATIENCE, ask_qemus
from executor.look.processes import processes
from executor.look.storage import storage
from executor.look.stores import Kept, kept
from executor.outputs import Outputs, Running
from executor.parse import domains, qemu_img, records, xl, zstd
from schema.diagnostic import Diagnostic, Refused
from schema.spec import DEFAULT_STORE


def observe(names: Collection[str] = (), stores: Iterable[str] = (), patience: float = PATIENCE) -> Outputs:
    """Return what the host says: all of it, whatever `names` says, as an image may have children anywhere.

    names: the domains that matter. What cannot be seen of others is left out, with a remark; of these it is refused.
    stores: folders with records besides /var/lib/domsnap. patience: seconds for one QEMU. Raises Refused too where
    there is no xl, and where a program of the host fails, hangs, or prints what cannot be read.
    """
    if not find("xl"):
        raise refuse(
            "no xl here",
            "a host is observed with xl, and this machine has none",
            "run domsnap on the Xen host; elsewhere plan with --facts FILE, from what `domsnap observe` wrote there, "
            "or with --offline, from the spec alone",
        )
    observed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    info = ask(*xl.INFO.split())
    seen = listing(names)
    stored = storage()
    held = kept([DEFAULT_STORE, *stores])
    looked = images(dict([*_of_records(held), *_of_disks(seen)]))
    _refuse_left_out(names, seen, looked)
    running = tuple(processes(set(seen.device_models.values())))
    there = {process.pid: process for process in running}
    monitors = {domid: domains.monitor(there[pid], domid) for domid, pid in seen.device_models.items() if pid in there}
    answers, silent = ask_qemus(monitors, patience)
    gone = {domid: pid for domid, pid in seen.device_models.items() if pid not in there}
    silent |= {domid: f"its device model, process {pid}, has ended" for domid, pid in gone.items()}
    return Outputs(
        observed=observed,
        xl_info=info,
        xl_list=seen.rows,
        xl_list_long=seen.long,
        xenstore=seen.store,
        findmnt=stored.findmnt,
        df=stored.df,
        lvs=stored.lvs,
        vgs=stored.vgs,
        lvm_version=stored.lvm_version,
        qemu_img_version=ask(*qemu_img.VERSION.split()) if find("qemu-img") else "",
        zstd_version=ask(*zstd.VERSION.split()) if find("zstd") else "",
        qemu_img_info=looked.texts,
        qmp=answers,
        records={each.folder: each.text for each in held if each.name == "record.json"},
        current=_current(held),
        processes=(*running, *(Running(pid, 0, "") for pid in gone.values())),
        inodes=looked.inodes,
        links=looked.links | dict(stored.named(path for path, _ in _of_disks(seen))),
        reflink=stored.reflink,
        remarks=(*seen.remarks, *stored.remarks, *looked.left_out.values(), *_silent(seen, silent)),
    )


def _of_disks(seen: Listing) -> Iterator[tuple[str, str]]:
    """Yield (path, format) of each disk that dom0 serves from a file or device; the others have no absolute path."""
    for domid, backends in seen.backends.items():
        for backend in backends:
            if backend.path.startswith("/") and backend.domain == 0:
                # The store does not say what a tapdisk makes of its file.
                tap = backend.kind == "tap"
                yield backend.path, seen.formats.get((domid, backend.vdev), "raw") if tap else backend.format


def _of_records(held: list[Kept]) -> Iterator[tuple[str, str]]:
    """Yield (path, format) of what the snapshots' disks were, and of what holds them now."""
    for each in held:
        if each.name == "record.json":
            for disk in records.record(each.folder, each.text).disks:
                for path in (disk.path, disk.holder):
                    if path.startswith("/"):
                        yield path, disk.format


def _current(held: list[Kept]) -> dict[str, str]:
    """Return the snapshot that each domain goes on from; of several stores the one that was written last is right."""
    said = sorted((each for each in held if each.name == "current"), key=lambda each: each.changed)
    return {each.folder.rpartition("/")[2]: each.text for each in said}


def _silent(seen: Listing, silent: dict[int, str]) -> Iterator[Diagnostic]:
    for domid, why in silent.items():
        yield Diagnostic(
            "a domain's QEMU does not answer",
            f"{seen.names[domid]} ({domid}): {why}",
            "nothing can be planned that needs it",
            severity="warning",
        )


def _refuse_left_out(names: Collection[str], seen: Listing, looked: Images) -> None:
    """Refuse to go on without the images of a domain that matters: what depends on them would not be seen."""
    wrong = [
        looked.left_out[path]
        for domid, backends in seen.backends.items()
        for backend in backends
        if seen.names[domid] in names and (path := looked.links.get(backend.path, backend.path)) in looked.left_out
    ]
    if wrong:
        raise Refused([Diagnostic("an image of the domain cannot be described", each.detail) for each in wrong])
