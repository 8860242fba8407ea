"""Records what the programs of real hosts print, for the tests that need no host: `./dev xen record`.

Three domains, as in tests/executor/test_observe.py: a PVH one with disks of four kinds, a PV one, an HVM one with PV
drivers and an empty CD drive; an image that is the child of another. Then lists in other states, and error texts.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from tests.executor.recordings import folder, keep
from tests.xen.dom0 import Dom0
from tests.xen.prepared import PYTHON, prepared

HOSTS = {"bookworm": "xen-4.17", "trixie": "xen-4.20"}
COMMON = "kernel = '/srv/vm/kernel'\nramdisk = '/srv/vm/initrd'\nmemory = 96\nvcpus = 1\ntsc_mode = 'native'\n"
HVM = "vga = 'none'\nvnc = 0\nnographic = 1\nserial = 'pty'\n"
DOMAINS = {
    "web01": ("pvh", "", [
        "format=qcow2, vdev=xvda, access=rw, target=/srv/vm/web01.qcow2",
        "format=raw, vdev=xvdb, access=rw, target=/srv/vm/web01-data.raw",
        "format=raw, vdev=xvdc, access=rw, target=/dev/vg0/db",
        "format=raw, vdev=xvdd, access=rw, target=/dev/vg0/cache",
    ]),
    "mail": ("pv", "", ["format=qcow2, vdev=xvda, access=rw, target=/srv/vm/mail.qcow2"]),
    "win": ("hvm", HVM, [
        "format=qcow2, vdev=hda, access=rw, target=/srv/vm/win.qcow2",
        "format=raw, vdev=xvdb, backendtype=qdisk, access=rw, target=/srv/vm/win-d.raw",
        "devtype=cdrom, vdev=hdc, access=ro, target=",
    ]),
}  # fmt: skip
DISKS = """set -e; cd /srv/vm
for each in web01 mail win; do qemu-img create -q -f qcow2 $each.qcow2 64M; done
truncate -s 64M web01-data.raw win-d.raw
qemu-img create -q -f qcow2 -b /srv/vm/web01.qcow2 -F qcow2 clone.qcow2
lvcreate -qq -y -L 64M -n db vg0; lvcreate -qq -y -V 64M --thinpool pool -n cache vg0
"""
# file -> what makes it; those that fail say with which status
MORE = {
    "xl-list.txt": "xl list",
    "xl-list.paused.txt": "xl pause mail; xl list; xl unpause mail",
    "xl-list.shutdown.txt": "xl shutdown mail; until xl list mail | grep -q -e '---s'; do sleep 0.3; done; xl list",
    "err.create-taken.txt": "xl create /srv/vm/web01.cfg; echo rc=$?",
    "err.restore-bad.txt": "echo nothing >/root/bad; xl restore /root/bad; echo rc=$?",
    "err.save-missing.txt": "xl save nope /root/none; echo rc=$?",
    "err.unpause-missing.txt": "xl unpause nope; echo rc=$?",
}


def record(dom0: Dom0, host: str) -> None:
    """Make the domains, and write down what the host says of them in place of what it said before."""
    dom0.ask(DISKS)
    for name, (kind, more, disks) in DOMAINS.items():
        text = f"name = {name!r}\ntype = {kind!r}\n{COMMON}{more}disk = {disks!r}\non_poweroff = 'preserve'\n"
        dom0.put(f"/srv/vm/{name}.cfg", text + "extra = 'console=hvc0 disks=0'\n")
        dom0.ask(f"xl create /srv/vm/{name}.cfg")
    dom0.ask("sleep 20")
    said = json.loads(dom0.ask("domsnap observe --outputs"))
    others = {file: dom0.ask(command) for file, command in MORE.items()}
    shutil.rmtree(folder(host))
    folder(host).mkdir()
    keep(host, said)
    for file, text in others.items():
        (folder(host) / file).write_text(text)


def main() -> None:
    """Record both hosts."""
    for release in PYTHON:
        with tempfile.TemporaryDirectory() as place, prepared(release, Path(place)) as dom0:
            record(dom0, HOSTS[release])
            print(f"recorded {folder(HOSTS[release])}", flush=True)


if __name__ == "__main__":
    main()
