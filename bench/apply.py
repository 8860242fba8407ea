"""Measures how long a guest stands still: by `domsnap apply`, by the printed script, and by the same commands by hand.

A real QEMU guest behind the tests' stand-in for xl; its two disks are a qcow2 image (internal snapshot) and a raw file
(copied). All ways go in turn, so that a busy moment hits them alike. "By hand" is the same commands with the monitor
already connected: it looks once whether the guest is really held, or gone, before it touches a disk, and checks, notes
and undoes nothing else. "By hand, blindly" does not look. The window is from the guest's stop to its going on.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from executor import journal
from planner.compile import compile_plan
from planner.plan import Verb
from schema.spec import Disk, Spec
from tests.sandbox import qemu
from tests.sandbox.host import Sandbox

ROOT = Path(__file__).resolve().parent.parent
QUIET = subprocess.DEVNULL
Times = dict[str, list[tuple[float, float]]]  # way -> (window, wall), in seconds


class Bench:
    """One domain of a stand-in host, and the three ways to snapshot it."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        box.create("web01", {"xvda": "qcow2", "xvdb": "raw"})
        self.image, self.raw = box.srv / "web01-xvda.qcow2", box.srv / "web01-xvdb.raw"
        self.here = {**os.environ, **box.environment, "PYTHONPATH": str(ROOT)}

    def spec(self, snapshot: str) -> Spec:
        disks = (Disk("xvda", "internal"), Disk("xvdb", "copy"))
        return replace(Spec("web01", snapshot), store=str(self.box.store), disks=disks)

    def apply(self, verb: Verb, snapshot: str = "one") -> None:
        file = self.box.root / "spec.yaml"
        methods = "disks: {xvda: internal, xvdb: copy}"
        file.write_text(f"version: 1\ndomain: web01\nsnapshot: {snapshot}\nstore: {self.box.store}\n{methods}\n")
        words = ["apply", str(file), "--yes", *([] if verb == "create" else [f"--{verb}"])]
        subprocess.run([sys.executable, "-m", "domsnap", *words], env=self.here, check=True, stdout=QUIET, stderr=QUIET)

    def script(self, verb: Verb) -> None:
        self.box.apply(compile_plan(verb, self.spec("one"), self.box.facts("web01")))

    def xl(self, *words: str) -> None:
        subprocess.run([str(self.box.root / "bin/xl"), *words], check=True, stdout=QUIET, stderr=QUIET)

    def create_by_hand(self, *, blindly: bool = False) -> None:
        domain = self.box.domain("web01")
        with qemu.Monitor(self.box.root / f"run/qmp-libxenstat-{domain.domid}") as monitor:
            os.kill(domain.monitor[0], signal.SIGSTOP)
            self.xl("save", "-p", "web01", str(self.box.root / "hand"))
            if not blindly:
                self.xl("list", "-v")
            run("cp", "--sparse=always", "--", str(self.raw), f"{self.raw}.hand")
            monitor("blockdev-snapshot-internal-sync", device="xvda-qcow2", name="hand")
            self.xl("unpause", str(domain.domid))
            os.kill(domain.monitor[0], signal.SIGCONT)
        run("sync", f"{self.raw}.hand", str(self.box.root / "hand"))

    def revert_by_hand(self, *, blindly: bool = False) -> None:
        run("cp", "--sparse=always", "--", f"{self.raw}.hand", f"{self.raw}.new")
        self.xl("save", "web01", str(self.box.root / "present"))
        if not blindly:
            self.xl("list", "-v")
        run("qemu-img", "snapshot", "-c", "present", str(self.image))
        run("qemu-img", "snapshot", "-a", "hand", str(self.image))
        Path(f"{self.raw}.new").rename(self.raw)
        self.xl("restore", str(self.box.root / "hand"))

    def clean_by_hand(self) -> None:
        domain = self.box.domain("web01")
        with qemu.Monitor(domain.folder / "test") as monitor:
            for name in ("hand", "present"):
                monitor("blockdev-snapshot-delete-internal-sync", device="xvda-qcow2", name=name)
        Path(f"{self.raw}.hand").unlink()

    def clean(self) -> None:
        present = next(path.name for path in (self.box.store / "web01").iterdir() if path.name.startswith("pre-revert"))
        self.apply("delete", present)
        self.apply("delete")

    def measure(self, act: Callable[[], None]) -> tuple[float, float]:
        """Return how long the guest stood still, and how long all took, in seconds."""
        clock = self.box.root / "clock"
        clock.unlink(missing_ok=True)
        begun = time.monotonic()
        act()
        wall = time.monotonic() - begun
        events = [line.split() for line in clock.read_text().splitlines()]
        window = float(events[-1][1]) - next(float(at) for event, at in events if event == "stopped")
        self.box.runs_on("web01")
        return window, wall


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=QUIET)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="./dev bench apply", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=12, metavar="N", help="rounds")
    rounds = parser.parse_args().runs
    created: Times = {}
    reverted: Times = {}
    with Sandbox() as box:
        bench = Bench(box)
        ways: dict[str, tuple[Callable[[], None], Callable[[], None], Callable[[], None]]] = {
            "by hand": (bench.create_by_hand, bench.revert_by_hand, bench.clean_by_hand),
            "by hand, blindly": (
                partial(bench.create_by_hand, blindly=True),
                partial(bench.revert_by_hand, blindly=True),
                bench.clean_by_hand,
            ),
            "domsnap apply": (lambda: bench.apply("create"), lambda: bench.apply("revert"), bench.clean),
            "the script, dash": (lambda: bench.script("create"), lambda: bench.script("revert"), bench.clean),
        }
        for number in range(rounds + 1):
            for way, (create, revert, clean) in ways.items():
                taken, back = bench.measure(create), bench.measure(revert)
                clean()
                if number:  # the first round fills the caches
                    created.setdefault(way, []).append(taken)
                    reverted.setdefault(way, []).append(back)
        note = time_of_a_note(box.store)
    for verb, times in (("create", created), ("revert", reverted)):
        print(f"{verb:<20}{'guest stands still':>20}{'fastest':>10}{'beside by hand':>22}{'wall':>10}")
        basis = statistics.median(window for window, _ in times["by hand"])
        for way, each in times.items():
            window = statistics.median(window for window, _ in each)
            wall = statistics.median(wall for _, wall in each)
            beside = f"{window / basis:.2f}, {1000 * (window - basis):+.0f} ms"
            print(f"{way:<20}{1000 * window:>17.0f} ms{1000 * min(each)[0]:>7.0f} ms{beside:>22}{wall:>8.2f} s")
        print()
    print(f"a line of the journal, made durable, takes {1000 * note:.2f} ms here (median)")


def time_of_a_note(folder: Path) -> float:
    """Return the seconds that one line of a journal takes in this folder."""
    path = folder / "note.jsonl"
    notes, times = journal.Journal(path, new=True), []
    for number in range(50):
        begun = time.monotonic()
        notes.note("did", step=number, command=1)
        times.append(time.monotonic() - begun)
    notes.close()
    path.unlink()
    return statistics.median(times)


if __name__ == "__main__":
    main()
