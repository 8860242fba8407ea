"""The outputs of two real hosts, as they were recorded, and what was added to them by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from executor.outputs import Outputs, Running

RECORDED = Path(__file__).parent.parent / "recorded"
HOSTS = {"xen-4.17": "xen-4.17-qemu-7.2", "xen-4.20": "xen-4.20-qemu-10.0"}
IMAGES = "/srv/vm"


def folder(host: str) -> Path:
    return RECORDED / HOSTS[host]


def outputs(host: str) -> Outputs:
    """Return what the host "xen-4.17" or "xen-4.20" said."""
    where = folder(host)

    def text(name: str) -> str:
        return (where / name).read_text()

    supplement: dict[str, Any] = json.loads(text("supplement.json"))
    domids = {row.split()[0]: int(row.split()[1]) for row in text("xl-list.txt").splitlines()[2:]}
    return Outputs(
        observed=supplement["observed"],
        xl_info=text("xl-info.txt"),
        xl_list=text("xl-list-v.txt"),
        xl_list_long=text("xl-list-l.json"),
        xenstore=text("xenstore-ls.txt"),
        findmnt=text("findmnt.json"),
        df=text("df.txt"),
        lvs=text("lvs.json"),
        vgs=text("vgs.json"),
        lvm_version=text("lvm-version.txt"),
        qemu_img_version=text("qemu-img-version.txt"),
        qemu_img_info={
            **{f"{IMAGES}/{path.name[14:-5]}": path.read_text() for path in sorted(where.glob("qemu-img-info.*.json"))},
            **{path: json.dumps(said) for path, said in supplement["qemu_img_info"].items()},
        },
        qmp={
            domid: {path.name.split(".")[2]: path.read_text() for path in where.glob(f"qmp.{name}.*.json")}
            for name, domid in domids.items()
        },
        processes=tuple(Running(**process) for process in supplement["processes"]),
        inodes=supplement["inodes"],
        reflink=tuple(supplement["reflink"]),
    )
