"""Dom0's disk, kernels and key: built from Debian packages, kept by the hash of what they are made from."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

RECIPE = Path(__file__).parent / "dom0"


def cache() -> Path:
    """Return the folder of all images; there is none before the first is built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "domsnap"


def image(release: str) -> Path:
    """Return the folder with disk.img, hypervisor, kernel, initrd and key of a release, built first if it has to
    be: that takes minutes. Images of older recipes are removed."""
    made_from = hashlib.sha256(b"\0".join(file.read_bytes() for file in sorted(RECIPE.iterdir())))
    made_from.update(str(os.uname().machine).encode())
    folder = cache() / f"xen-{release}-{made_from.hexdigest()[:12]}"
    if folder.exists():
        return folder
    for old in cache().glob(f"xen-{release}-*"):
        shutil.rmtree(old)
    part = folder.with_name(f"xen-{release}-{os.getpid()}.part")
    part.mkdir(parents=True)
    print(f"building a {release} dom0 in {folder}", flush=True)
    with (cache() / f"build-{release}.log").open("w") as log:
        done = subprocess.run([RECIPE / "build", release, part], stdout=log, stderr=log, check=False)
    if done.returncode:
        shutil.rmtree(part)
        tail = "\n".join(Path(log.name).read_text().splitlines()[-20:])
        raise RuntimeError(f"the {release} dom0 cannot be built, exit status {done.returncode}: see {log.name}\n{tail}")
    part.rename(folder)
    return folder
