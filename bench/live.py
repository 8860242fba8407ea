"""Measures how long a guest on a real Xen host stands still: by `xl save -c`, and by domsnap, paused and live.

One PVH domain for each size of memory and rate at which its guest changes it; its disk a qcow2 image (external
snapshot), or that and a thin volume, for which `lvcreate` on the emulated host takes seconds. All three ways in one run
of it. `xl save -c` writes the memory alone: no disk. By the guest: the longest that its CLOCK_BOOTTIME jumped between
two ticks of 10 ms. By Xen, with --often: from when it says that the domain is suspended until it is not, asked so often
from dom0. Ours: what of a live window domsnap takes, from when all of the memory has come until it lets go; the rest is
xl's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.plot import plot
from tests.xen.dom0 import Dom0, Failed
from tests.xen.domain import Domain, Said
from tests.xen.prepared import PYTHON, RESET, prepared

HERE = Path(__file__).parent
DISKS = {"qcow2": {"xvda": "qcow2"}, "qcow2+lvm": {"xvda": "qcow2", "xvdb": "thin"}}
MODES = {"qcow2": "external", "thin": "lvm"}
SPEC = """version: 1
domain: web01
snapshot: {way}
memory: {{capture: {way}}}
disks: {{{disks}}}
"""
SAVE = "xl save -c"
WAYS = (SAVE, "paused", "live")
Row = dict[str, float]  # what -> seconds, or a share


def row(dom0: Dom0, domain: Domain, way: str, often: float) -> Row:
    """Take one snapshot, or save the memory, and return how long things took."""
    number, before = domain.domid(), domain.lines()
    domain.next(lines=6)
    if way == SAVE:
        command = f"xl save -c {number} /srv/save"
    else:
        disks = ", ".join(f"{disk}: {MODES[kind]}" for disk, kind in domain.disks.items())
        dom0.put("/root/spec.yaml", SPEC.format(way=way, disks=disks))
        command = "domsnap apply /root/spec.yaml --yes"
    idle = domain.lines()[len(before) :]
    said = dom0.ask(f"python3 /root/watch.py {number} {often} {command}", limit=1200)
    domain.whole(lines=3)
    events = [json.loads(line) for line in said.splitlines() if line.startswith("[")]
    if events[-1][1:] != ["exit", 0] or any(what == "gone" for _, what, *_ in events):
        raise Failed(
            said + dom0.ask("xl list; tail -n 15 /var/log/xen/xl-web01.log; xl dmesg | tail -n 40", status=None)
        )
    during = domain.lines()[len(before) + len(idle) :]
    changes = [at for at, what, *_ in events if what in ("still", "runs")]
    measured = {
        "guest": max(line.gap for line in during) / 1000,
        "xen": changes[-1] - changes[0] if changes else 0,
        "wall": events[-1][0] - events[0][0],
        "speed": pace(during) / pace(idle),
    }
    lines = [(at, rest[0]) for at, what, *rest in events if what == "line"]
    if way == "live":
        come = next(at for at, line in lines if "now it stands still" in line)
        go = next(at for at, line in lines if line.startswith("[") and "run on" in line)
        measured["ours"] = go - come
        measured["times"] = next(float(line.split(", ")[1].split()[0]) for _, line in lines if "times what" in line)
    dom0.ask("rm -f /srv/save")
    return measured


def pace(lines: list[Said]) -> float:
    """Return the rounds that a guest does between two of its lines, a second or more of its clock."""
    return statistics.median((b.count - a.count) / (1 + b.gap / 1000) for a, b in itertools.pairwise(lines))


def measure(dom0: Dom0, disks: str, memory: int, dirty: int, often: float) -> dict[str, Row]:
    """Return what each way took, of one domain."""
    for attempts_left in (2, 1, 0):
        domain = Domain(dom0, "web01", "pvh", DISKS[disks], dirty=dirty, memory=memory)
        try:
            domain.create()
            domain.whole(lines=5)
            return {way: row(dom0, domain, way, often) for way in WAYS}
        except Failed as failed:
            # The emulated processor now and then resumes a guest at an address of Xen's.
            if not attempts_left or "Triple fault" not in str(failed):
                raise
            print("the emulated processor has lost the guest (a triple fault): once more", flush=True)
        finally:
            dom0.ask(RESET, status=None)
    raise AssertionError


def told(asked: argparse.Namespace, dom0: Dom0) -> Iterator[tuple[str, dict[str, Row]]]:
    """Measure all, print as it comes, and yield it."""
    windows = f"{'guest':>9}{'Xen':>9}{'beside':>8}"
    print(f"{'disks':<9}{'memory':>9}{'dirtied':>12}  {'way':<10}{windows}{'wall':>8}{'pace':>6}  of it")
    for disks, memory, dirty in itertools.product(asked.disks, asked.memory, asked.dirty):
        measured = measure(dom0, disks, memory, dirty, asked.often)
        for way, each in measured.items():
            beside = measured[SAVE]["guest"] / each["guest"]
            ours = f"ours {1000 * each['ours']:.0f} ms; sent {each['times']:.1f} times" if "ours" in each else ""
            xen = f"{1000 * each['xen']:.0f}ms" if each["xen"] else "-"
            windows = f"{1000 * each['guest']:>8.0f}ms{xen:>9}{beside:>7.1f}x"
            cost = f"{each['wall']:>6.1f} s{each['speed']:>6.2f}"
            print(f"{disks:<9}{memory:>5} MiB{dirty:>6} MiB/s  {way:<10}{windows}{cost}  {ours}", flush=True)
        yield f"{memory} MiB, {dirty} MiB/s, {disks}", measured


def main() -> None:
    """Print the table; write the plot."""
    parser = argparse.ArgumentParser(prog="./dev bench live", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--release", choices=PYTHON, default="trixie")
    parser.add_argument("--disks", choices=DISKS, nargs="+", default=["qcow2"])
    parser.add_argument("--memory", type=int, nargs="+", default=[256, 1024], metavar="MIB")
    parser.add_argument("--dirty", type=int, nargs="+", default=[0, 1, 10, 100], metavar="MIB")
    parser.add_argument("--often", type=float, default=0, metavar="SECONDS", help="ask Xen too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, prepared(asked.release, Path(folder)) as dom0:
        dom0.put("/root/watch.py", (HERE / "watch.py").read_text())
        rows = list(told(asked, dom0))
    if asked.plot:
        bars = [(name, {way: each["guest"] for way, each in ways.items()}) for name, ways in rows]
        asked.plot.write_text(plot("How long the guest stands still", bars), encoding="utf-8")


if __name__ == "__main__":
    main()
