"""A host with disks of all kinds and domsnap in it, as its administrator would put it there."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.xen.dom0 import Dom0
from tests.xen.image import cache

ROOT = Path(__file__).parents[2]
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
# What disks of all kinds need. The store lies where domsnap puts it by itself. LVM writes around the page cache and
# flushes nothing: a loop device that went through it would lose to a power cut what no disk loses.
PREPARE = """
truncate -s 700M /srv/pv && vgcreate -qq vg0 $(losetup --direct-io=on -f --show /srv/pv)
lvcreate -qq -y -L 256M --thinpool pool vg0
truncate -s 400M /srv/blocks && mkfs.xfs -q -m reflink=1 /srv/blocks
mkdir -p /srv/xfs && mount -o loop /srv/blocks /srv/xfs
domsnap --version
"""

# What a test has left must not make the next ones fail.
RESET = """
pkill -KILL -f '/usr/local/bin/[d]omsnap'
pkill -KILL -f '[r]eceive.py'
for domain in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $domain; done
sleep 2
pkill -KILL -x xl
for volume in $(lvs --noheadings -o lv_path vg0 | grep /dev/ | grep -v '/pool$'); do lvremove -qq -f -y $volume; done
rm -rf /var/lib/domsnap/* /srv/vm/web* /srv/xfs/*
"""


@contextmanager
def prepared(release: str, folder: Path) -> Iterator[Dom0]:
    """Yield a host that is up; the folder is for its disk and what it says. One at a time: the next one waits."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once on a small machine, and the device models of both time out
        with Dom0(release, folder) as host:
            host.put("/usr/local/bin/domsnap", bundle(PYTHON[release]), "755")
            host.ask(f"set -e; {PREPARE}")
            yield host


def bundle(python: str) -> bytes:
    """Return the file that a dom0 without pip gets, for this version of Python."""
    argv = [sys.executable, f"{ROOT}/tools/bundle.py", "--python", python]
    subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (file,) = (ROOT / "dist").glob(f"domsnap-*-py{python.replace('.', '')}.run")
    return file.read_bytes()
