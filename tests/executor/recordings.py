"""The outputs of two real hosts, in the files that `./dev xen record` writes anew.

Those there are of 2026-11-23, from before it: of them the numbers of processes and inodes in kernel.json, and what
qemu-img says of win-d.raw, were put in by hand.
"""

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


# Each text has a file of its own, for people to read; what the kernel was asked stands in kernel.json.
TEXTS = {
    "xl_info": "xl-info.txt",
    "xl_list": "xl-list-v.txt",
    "xl_list_long": "xl-list-l.json",
    "xenstore": "xenstore-ls.txt",
    "findmnt": "findmnt.json",
    "df": "df.txt",
    "lvs": "lvs.json",
    "vgs": "vgs.json",
    "lvm_version": "lvm-version.txt",
    "qemu_img_version": "qemu-img-version.txt",
    "zstd_version": "zstd-version.txt",
}
KERNEL = ("observed", "processes", "inodes", "links", "reflink")


def outputs(host: str) -> Outputs:
    """Return what the host "xen-4.17" or "xen-4.20" said."""
    where = folder(host)
    kernel: dict[str, Any] = json.loads((where / "kernel.json").read_text())
    kernel["processes"] = tuple(Running(**process) for process in kernel["processes"])
    kernel["reflink"] = tuple(kernel["reflink"])
    # A program that was not there has no file.
    texts: dict[str, Any] = {
        name: (where / file).read_text() for name, file in TEXTS.items() if (where / file).exists()
    }
    return Outputs(
        **texts,
        qemu_img_info={
            f"{IMAGES}/{path.name[14:-5]}": path.read_text() for path in sorted(where.glob("qemu-img-info.*.json"))
        },
        qmp={
            int(path.name): {file.stem: file.read_text() for file in sorted(path.iterdir())}
            for path in sorted((where / "qmp").iterdir())
        },
        **kernel,
    )


def keep(host: str, said: dict[str, Any]) -> None:
    """Write down what `domsnap observe --outputs` printed on a host."""
    where = folder(host)
    for name, file in TEXTS.items():
        if said[name]:
            (where / file).write_text(said[name])
    for path, text in said["qemu_img_info"].items():
        (where / f"qemu-img-info.{Path(path).name}.json").write_text(text)
    for domid, answers in said["qmp"].items():
        (where / "qmp" / domid).mkdir(parents=True)
        for command, text in answers.items():
            (where / "qmp" / domid / f"{command}.json").write_text(text)
    (where / "kernel.json").write_text(json.dumps({name: said[name] for name in KERNEL}, indent=2) + "\n")
