"""What a real Xen host inside QEMU is made of: built from Debian packages, kept by the hash of what it is made from."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def cache() -> Path:
    """Return the folder of all images; there is none before the first is built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "domsnap"


def image(release: str) -> Path:
    """Return the folder with disk.img, hypervisor, kernel, initrd and key of a release; to build it takes minutes."""
    return _built(f"xen-{release}", HERE / "dom0", release)


def emulator() -> list[str]:
    """Return how the QEMU that a host runs in is started: one that is built with faults mended which cost guests."""
    folder = _built("emulator", HERE / "emulator")
    return [f"{folder}/qemu", "-L", f"{folder}/data"]


def _built(name: str, recipe: Path, *words: str) -> Path:
    """Return the folder that `build` of a recipe has filled, once; those of older recipes are removed."""
    files = [HERE / "sources", *sorted(recipe.iterdir())]
    made_from = hashlib.sha256(b"\0".join(file.read_bytes() for file in files))
    made_from.update(str(os.uname().machine).encode())
    folder = cache() / f"{name}-{made_from.hexdigest()[:12]}"
    if folder.exists():
        return folder
    for old in cache().glob(f"{name}-*"):
        shutil.rmtree(old)
    part = folder.with_name(f"{name}-{os.getpid()}.part")
    part.mkdir(parents=True)
    print(f"building {folder}", flush=True)
    with (cache() / f"build-{name}.log").open("w") as log:
        done = subprocess.run([recipe / "build", *words, part], stdout=log, stderr=log, check=False)
    if done.returncode:
        shutil.rmtree(part)
        tail = "\n".join(Path(log.name).read_text().splitlines()[-20:])
        raise RuntimeError(f"{name} cannot be built, exit status {done.returncode}: see {log.name}\n{tail}")
    part.rename(folder)
    return folder
