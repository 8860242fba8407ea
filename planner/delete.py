"""The verb delete: a snapshot taken away, every other one left whole."""

from __future__ import annotations

from dataclasses import replace

from planner.draft import Draft
from planner.facts import Disk
from planner.methods import METHODS
from planner.methods.method import Target
from planner.operations.store import MarkCurrent, RemoveSnapshotFiles, RewriteRecord
from planner.plan import DiskRow
from planner.refusals import refuse_state
from planner.revert import refuse_missing


def delete(draft: Draft) -> None:
    """Lay down the removal of the snapshot that the draft's spec names; one that was begun before is finished."""
    spec, domain, facts = draft.spec, draft.domain, draft.facts
    refuse_state(draft)
    record = facts.record(domain.name, spec.snapshot)
    if record is None:
        refuse_missing(draft, None)
        return
    draft.commit_place = "mark"
    draft.confirm("[^ ]+")
    if record.state == "complete":
        draft.add(RewriteRecord(replace(record, state="deleting"), "it is being deleted"), "mark")
    now = {disk.vdev: disk for disk in domain.disks}
    for held in record.disks:
        disk = now.get(held.vdev)
        if disk is None or disk.path != held.path:
            disk = Disk(held.vdev, held.backend, held.format, held.path, held.path, held.capacity)
        METHODS[held.method].delete(Target(draft, disk), held, record)
        row = (held.vdev, disk.backend, disk.format, disk.path, disk.capacity, held.method)
        draft.rows.append(DiskRow(domain.name, *row, held.reason, held.holder))
    draft.add(RemoveSnapshotFiles(record), "publish")
    draft.destroys.append(f"memory: {record.memory}" if record.memory else f"the record of {record.snapshot}")
    if (facts.current or {}).get(domain.name) == record.snapshot:
        draft.add(MarkCurrent(f"{spec.store}/{domain.name}", record.parent), "last")
