"""Measures how long compacting a live capture's memory image takes, beside `cp` of the same file.

A made-up image of a PVH guest: every page of its memory and the holes up to 4 GiB in a first pass, as Xen sends them,
then a third of the pages again and again, strewn all over. Both ways end with the file on the disk.
"""

from __future__ import annotations

import argparse
import os
import random
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from executor.pages import PAGE, Copy, outline
from tests.executor.streams import HEAD, TAIL, XTAB

BATCH, HOLES = 1024, 0xFF000  # pages in a record; page numbers of the first pass
GIB, MIB = 2**30, 2**20


def build(path: Path, pages: int, passes: int) -> None:
    """Write an image of so many pages, a third of them `passes` times more."""
    chosen, content = random.Random(1), os.urandom(BATCH * PAGE)

    def batches(file: object, numbers: list[int]) -> None:
        for first in range(0, len(numbers), BATCH):
            part = numbers[first : first + BATCH]
            data = content[: PAGE * sum(number < pages for number in part)]
            head = struct.pack("<IIII", 1, 8 + 8 * len(part) + len(data), len(part), 0)
            file.write(head + struct.pack(f"<{len(part)}Q", *part) + data)  # type: ignore[attr-defined]

    with path.open("wb") as file:
        file.write(HEAD)
        batches(file, [number if number < pages else number | XTAB << 60 for number in range(max(pages, HOLES))])
        for _ in range(passes):
            batches(file, sorted(chosen.sample(range(pages), pages // 3)))
        file.write(TAIL)
        os.fsync(file.fileno())


def compact(source: Path, target: Path) -> tuple[float, float, int]:
    """Compact, and return the seconds of the look through the numbers, those of the rest, and the new size."""
    begun = time.monotonic()
    with source.open("rb") as image, target.open("wb") as made:
        found = outline(image)
        looked = time.monotonic()
        Copy(image, lambda _: None).make(found, lambda data: os.write(made.fileno(), data))
        os.fsync(made.fileno())
    return looked - begun, time.monotonic() - looked, target.stat().st_size


def cp(source: Path, target: Path) -> float:
    begun = time.monotonic()
    subprocess.run(["cp", source, target], check=True)
    subprocess.run(["sync", target], check=True)
    return time.monotonic() - begun


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="./dev bench compact", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gib", type=float, default=1, metavar="N", help="memory of the guest")
    parser.add_argument("--folder", metavar="DIR", help="where the files go")
    said = parser.parse_args()
    print(f"{'image':>10}{'compacted':>12}{'look':>9}{'copy':>9}{'all':>9}{'cp':>9}{'beside cp':>12}")
    with tempfile.TemporaryDirectory(dir=said.folder) as folder:
        source, target = Path(folder, "memory"), Path(folder, "made")
        for passes in (1, 3, 6):
            build(source, int(said.gib * GIB) // PAGE, passes)
            ways = [(compact(source, target), cp(source, target)) for _ in range(3)]
            (look, copy, size), plain = min(w[0] for w in ways), min(w[1] for w in ways)
            total = f"{source.stat().st_size // MIB:>6} MiB{size // MIB:>8} MiB{look:>7.2f} s{copy:>7.2f} s"
            print(f"{total}{look + copy:>7.2f} s{plain:>7.2f} s{(look + copy) / plain:>12.2f}")


if __name__ == "__main__":
    main()
