"""An example of every operation class there is, made from its fields, so that a new class cannot escape the rules."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import planner.draft
import planner.operations
from planner.facts import Held, Process, Record
from planner.operation import Operation
from planner.operations import overlay, qcow2
from planner.operations.files import backup_action

UUID = "bbe9b839-51d1-4ac0-8ea2-25778e7005b1"
MONITOR = "/run/xen/qmp-libxenstat-7"
HELD = Held("xvda", "internal", "qdisk", "qcow2", "/srv/a.qcow2", 2**30, "/srv/a.qcow2", "s1")
RECORD = Record("web01", UUID, "pvh", "s1", "/var/lib/domsnap/web01/s1", (HELD,), "2026-11-23T07:34:00Z", memory="/m",
                shrink="zst")  # fmt: skip
ACTIONS = (
    overlay.snapshot_action("xvda", MONITOR, "xvda-qcow2", "ds-1-xvda", "/srv/a.new", "domsnap-1-xvda"),
    qcow2.tag_action("xvdb", MONITOR, "xvdb-qcow2", "s1", "/srv/vm/web01.qcow2"),
    backup_action("xvdc", MONITOR, "xvdc-raw", "ds-1-xvdc", "domsnap-1-xvdc"),
)
_BY_NAME: dict[str, Any] = {
    "process": Process(1400, 87000, "/usr/lib/xen/bin/xl"), "qemu": Process(1452, 88001, "/usr/bin/qemu"),
    "domid": 7, "images": (("/srv/a.qcow2", "64769:131"),), "volumes": (("vg0/db", "4nFT6i"),),
    "later": (), "needs": (("/srv", "filesystem", 4096), ("vg0", "volume group", 4096), ("RAM", "memory", 2**30)),
    "uuid": UUID, "monitor": MONITOR, "record": RECORD, "actions": ACTIONS, "commands": (), "state": "[r-][b-]----",
}  # fmt: skip
_BY_TYPE: dict[str, Any] = {"int": 4096, "bool": True}


def classes() -> list[type[Operation]]:
    """Return every concrete operation class of the planner."""
    modules = [
        importlib.import_module(f"planner.operations.{m.name}")
        for m in pkgutil.iter_modules(planner.operations.__path__)
    ]
    found = {
        each
        for module in [*modules, planner.draft]
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Operation) and not each.__abstractmethods__
    }
    return sorted(found, key=lambda each: each.__name__)


def example(kind: type[Operation], **other: Any) -> Operation:
    """Return an instance whose every text field says its own name, as a path where a path is meant."""
    values: dict[str, Any] = {}
    for item in fields(kind):  # type: ignore[arg-type]  # every concrete operation is a dataclass
        kind_of = str(item.type)
        values[item.name] = _BY_NAME.get(item.name, _BY_TYPE.get(kind_of, f"/srv/{item.name}"))
    return kind(**{**values, **other})


def examples() -> Iterator[Operation]:
    for kind in classes():
        yield example(kind)
        if flags := {item.name: False for item in fields(kind) if item.type == "bool"}:  # type: ignore[arg-type]
            yield example(kind, **flags)
