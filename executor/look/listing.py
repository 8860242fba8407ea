"""The domains as xl and xenstore list them, in three calls that must agree though domains come and go."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from executor.look.ask import ask, refuse
from executor.parse import xenstore, xl
from schema.diagnostic import Diagnostic, Refused


@dataclass(frozen=True, slots=True)
class Listing:
    """What the three printed, and by domid: names, backends of the disks, numbers of the device models' processes.

    formats: as the configuration has them, by domid and vdev.
    """

    rows: str
    long: str
    store: str
    names: Mapping[int, str]
    backends: Mapping[int, tuple[xenstore.Backend, ...]]
    device_models: Mapping[int, int]
    formats: Mapping[tuple[int, str], str]
    remarks: tuple[Diagnostic, ...] = ()


def listing(names: Collection[str]) -> Listing:
    """Return what is listed. It is asked twice if a domain came or went meanwhile; one that does so again is left out.

    Raises Refused if it is one of `names`.
    """
    for last in (False, True):
        # xl's table is the last: who is not in it has gone, whatever the others say.
        long, store, rows = (ask(*command.split()) for command in (xl.LONG, xenstore.LS, xl.LIST))
        there, lost = _agreed(rows, long, store)
        if last or not lost:
            break
    for row, why in lost:
        if row.name in names:
            raise refuse(
                "the domain came or went while it was observed", f"{row.name} ({row.domid}): {why}", "try again"
            )
    entries = xenstore.entries(store)
    pids = {domid: pid for domid in there if (pid := xenstore.device_model(entries, domid))}
    return Listing(
        rows=_without({row.domid: row.name for row, _ in lost}, rows),
        long=long,
        store=store,
        names={row.domid: row.name for row in xl.rows(rows)},
        backends=there,
        device_models=pids,
        formats={(each.domid, disk.vdev): disk.format for each in xl.configurations(long) for disk in each.disks},
        remarks=tuple(
            Diagnostic(
                "a domain was left out of the facts", f"{row.name} ({row.domid}): {why}",
                "its images are not known to be in use: observe again", severity="warning",
            )
            for row, why in lost
        ),
    )  # fmt: skip


def _agreed(
    rows: str, long: str, store: str
) -> tuple[dict[int, tuple[xenstore.Backend, ...]], list[tuple[xl.Row, str]]]:
    """Return the backends of each domain, and the domains of which one of the three says nothing that can be read."""
    entries = xenstore.entries(store)
    numbers = xenstore.disks(entries)
    configured = {config.domid for config in xl.configurations(long)}
    there: dict[int, tuple[xenstore.Backend, ...]] = {}
    lost: list[tuple[xl.Row, str]] = []
    for row in xl.rows(rows):
        if row.domid == 0 or (row.state == "dying" and row.domid not in configured):
            continue
        if row.domid not in configured:
            lost.append((row, f"`{xl.LONG}` does not know it yet"))
            continue
        try:
            there[row.domid] = tuple(xenstore.backends(entries, row.domid, numbers.get(row.domid, ())))
        except Refused as refused:
            lost.append((row, refused.diagnostics[0].detail))
    return there, lost


def _without(lost: Mapping[int, str], rows: str) -> str:
    lines = [re.compile(rf"{re.escape(name)} +{domid} ") for domid, name in lost.items()]
    return "".join(line for line in rows.splitlines(keepends=True) if not any(each.match(line) for each in lines))
