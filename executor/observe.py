"""What a host's programs print, put together as the facts document; nothing here runs a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from executor.outputs import Outputs
from executor.parse import domains, filesystems, lvm, qemu_img, records, xl, zstd
from planner.facts import Facts, Record

VERSION = 1


def facts_document(outputs: Outputs) -> dict[str, Any]:
    """Return the document that `schema/facts.schema.json` describes, without what stands at its default.

    Raises Refused naming the command whose output cannot be read.
    """
    return {"version": VERSION, **_said(facts(outputs))}


def facts(outputs: Outputs) -> Facts:
    """Return the facts that the outputs hold; raises Refused naming the command whose output cannot be read."""
    images = {
        image.path: image
        for path, text in outputs.qemu_img_info.items()
        for image in qemu_img.images(path, text, outputs.inodes, outputs.links)
    }
    volumes = tuple(lvm.volumes(outputs.lvs))
    kept = tuple(records.record(folder, text) for folder, text in outputs.records.items())
    running = tuple(domains.domains(outputs, images, volumes))
    host = replace(
        xl.host(outputs.xl_info),
        qemu_img=qemu_img.version(outputs.qemu_img_version),
        lvm=lvm.version(outputs.lvm_version),
        zstd=zstd.version(outputs.zstd_version),
        save_rate=outputs.save_rate,
    )
    return Facts(
        observed=outputs.observed,
        host=host,
        domains=(*running, *records.stopped(kept, {domain.name for domain in running}, volumes)),
        images=tuple(images[path] for path in sorted(images)),
        volumes=volumes,
        volume_groups=tuple(lvm.groups(outputs.vgs)),
        filesystems=tuple(filesystems.filesystems(outputs.findmnt, outputs.df, outputs.reflink)),
        records=kept,
        current={domain: text.strip() for domain, text in outputs.current.items()},
    )


def _said(value: Any) -> Any:
    """Return a value as JSON has it; fields at their default are left out, but for those of a record."""
    if isinstance(value, tuple):
        return [_said(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    if not is_dataclass(value):
        return value
    whole = isinstance(value, Record)
    said = {
        item.name: _said(getattr(value, item.name))
        for item in fields(value)
        if whole or item.default is MISSING or getattr(value, item.name) != item.default
    }
    return {"version": VERSION, **said} if whole else said
