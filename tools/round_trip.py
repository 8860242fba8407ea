"""Takes a snapshot of a guest that counts, goes back to it, and deletes it again.

The guest is a real QEMU; xl is a stand-in that saves and restores it as Xen would, since this machine need not be a Xen
host. The guest counts in its memory and on each of its disks, so that one can see whether they are of the same instant.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sandbox.host import Sandbox

ROOT = Path(__file__).resolve().parent.parent
DISKS = {"xvda": "qcow2", "xvdb": "qcow2", "xvdc": "job"}
SPEC = """\
version: 1
domain: web01
snapshot: {snapshot}
store: {store}
disks:
  xvdb: external
"""


def main() -> int:
    """Do it all, and say what there was to see; return 1 if something was not as it should be."""
    with Sandbox() as box:
        right = round_trip(box)
    print(
        "memory and disks were of one instant each time, and nothing is left over" if right else "NOT AS IT SHOULD BE"
    )
    return 0 if right else 1


def round_trip(box: Sandbox) -> bool:
    """Do it on this host, and say whether all was right."""
    print("A guest that counts on three disks: qcow2 (internal), qcow2 (external), raw (copied while it runs).")
    print("It counts in its memory first and then on one disk after the other: a disk may be one behind.\n")
    box.create("web01", DISKS)
    spec = box.root / "web01.yaml"
    spec.write_text(SPEC.format(snapshot="before-upgrade", store=box.store))
    present = box.root / "present.yaml"
    present.write_text(SPEC.format(snapshot="pre-revert-1", store=box.store))
    first = look(box, "it counts")
    right = domsnap(box, "apply", str(spec), "--yes")
    box.runs_on("web01", 40)
    late = look(box, "it goes on")
    right &= domsnap(box, "apply", str(spec), "--revert", "--yes")
    back = look(box, "gone back")
    right &= domsnap(box, "apply", str(present), "--delete", "--yes")
    right &= domsnap(box, "apply", str(spec), "--delete", "--yes")
    box.runs_on("web01")
    end = look(box, "and on")
    picture(first, late, back, end)
    left = [name for name in box.files() if name.startswith("store/") and "/applied/" not in name]
    return right and first <= back < late and left == ["store/web01/current"] and not box.lasting("web01")


def look(box: Sandbox, what: str) -> int:
    """Print the counters of memory and disks, and return the guest's."""
    instant = box.instant("web01")
    disks = ", ".join(f"{vdev} {held}" for vdev, held in instant.disks.items())
    if instant.tear:
        raise SystemExit(f"not of one instant: {instant.tear}")
    print(f"  {what}: memory {instant.mark.counter}, {disks}\n", flush=True)
    return instant.mark.counter


def domsnap(box: Sandbox, *words: str) -> bool:
    """Run domsnap, let it say what it does, and say whether it exited 0."""
    print("$ domsnap", *(Path(word).name if word.startswith("/") else word for word in words), flush=True)
    environment = {**os.environ, **box.environment, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "domsnap", *words]
    done = subprocess.run(
        argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    print(done.stderr.replace(f"{box.root}/", ""), flush=True)
    return done.returncode == 0


def picture(first: int, late: int, back: int, end: int) -> None:
    """Draw the guest's two lives."""
    print(f"""\
  {first:>4} ----o----------------------> {late}   given up (kept as pre-revert-1, then deleted)
           |
           before-upgrade
           |
  {back:>4}     `-----------------------> {end}   the life that goes on
""")


if __name__ == "__main__":
    raise SystemExit(main())
