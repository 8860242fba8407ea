"""Measures `domsnap plan`: cold starts beside what Python and the libraries take by themselves, and many domains.

Cold starts are interleaved, a round of all commands after another, so that a busy moment hits them alike; the medians
are shown with their ratio to `import jsonschema, yaml`. Many domains: one facts file, every domain of it compiled, in a
process of its own for each size, whose peak of memory is what the kernel says (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GIB = 2**30
SIZES = (1, 100, 1_000, 10_000)
SPEC = "version: 1\ndomain: d00000\nsnapshot: bench\n"
BASIS = "python3 -c 'import jsonschema, yaml'"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="./dev bench plan", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=25, metavar="N", help="rounds of cold starts")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, metavar="N", help="how many domains")
    parser.add_argument("--child", metavar="FACTS", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.child:
        print(json.dumps(_many(Path(said.child))))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.machine()}, {said.runs} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for line in _cold_table(scratch, said.runs):
            print(line, flush=True)
        print()
        for line in _many_table(scratch, said.sizes):
            print(line, flush=True)


def _cold_table(scratch: Path, runs: int) -> Iterator[str]:
    spec, facts = scratch / "spec.yaml", scratch / "one.json"
    spec.write_text(SPEC)
    facts.write_text(json.dumps(document(1)))
    domsnap = str(Path(sys.executable).with_name("domsnap"))
    commands = {
        "python3 -c pass": [sys.executable, "-c", "pass"],
        BASIS: [sys.executable, "-c", "import jsonschema, yaml"],
        "domsnap validate SPEC": [domsnap, "validate", str(spec)],
        "domsnap plan SPEC --facts FILE": [domsnap, "plan", str(spec), "--facts", str(facts)],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, argv in commands.items():
            begun = time.perf_counter()
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
            if number:  # the first round fills the caches
                times[name].append(time.perf_counter() - begun)
    basis = statistics.median(times[BASIS])
    yield f"{'cold start':<38}{'median':>10}{'fastest':>10}{'ratio':>8}"
    for name, each in times.items():
        median = statistics.median(each)
        yield f"{name:<38}{median * 1e3:>7.0f} ms{min(each) * 1e3:>7.0f} ms{median / basis:>8.2f}"


def _many_table(scratch: Path, sizes: list[int]) -> Iterator[str]:
    head = ("domains", "facts", "read", "facts -> plans", "per domain", "peak memory")
    yield "{:>9}{:>12}{:>11}{:>17}{:>13}{:>14}".format(*head)
    for size in sizes:
        path = scratch / f"{size}.json"
        path.write_text(json.dumps(document(size)))
        child = [sys.executable, __file__, "--child", str(path)]
        done = subprocess.run(child, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        told = json.loads(done.stdout)
        yield (
            f"{size:>9}{path.stat().st_size / 1e6:>9.1f} MB{told['read']:>9.2f} s{told['compile']:>15.2f} s"
            f"{told['compile'] / size * 1e3:>10.2f} ms{told['peak'] / 1e6:>11.0f} MB"
        )


def _many(path: Path) -> dict[str, float]:
    """Compile a plan for every domain of a facts file: seconds to read it, seconds to compile, peak memory in bytes."""
    from domsnap.planning import facts
    from planner.compile import compile_plan
    from schema.spec import Spec

    begun = time.perf_counter()
    known = facts(str(path))
    read = time.perf_counter()
    for domain in known.domains:
        compile_plan("create", Spec(domain.name, "bench"), known)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"read": read - begun, "compile": done - read, "peak": peak}


def document(size: int) -> dict[str, Any]:
    """Return a facts document of a host with so many domains, each with a qcow2 image, a thin volume and a raw file."""
    return {
        "version": 1,
        "observed": "2026-11-23T07:34:00Z",
        "host": {
            "name": "dom0", "xen": "4.20.0", "virt_caps": ["pv", "hvm", "hap"], "memory_total": size * 4 * GIB,
            "memory_free": size * 2 * GIB, "qemu_img": "10.0.0", "lvm": "2.03.31", "save_rate": 200_000_000,
        },
        "domains": [_domain(number) for number in range(size)],
        "images": [image for number in range(size) for image in _images(number)],
        "volumes": [
            {"vg": "vg0", "name": "pool", "uuid": "EXTEgl", "size": size * 32 * GIB, "kind": "thin-pool",
             "data_percent": 10.0, "metadata_percent": 5.0},
            *(
                {"vg": "vg0", "name": f"data{number:05}", "uuid": f"LXk{number:05}", "size": 8 * GIB, "kind": "thin",
                 "pool": "pool", "data_percent": 10.0}
                for number in range(size)
            ),
        ],
        "volume_groups": [{"name": "vg0", "size": size * 64 * GIB, "free": size * 32 * GIB, "extent": 4 * 2**20}],
        "filesystems": [
            {"mount": "/", "type": "ext4", "size": 40 * GIB, "free": 20 * GIB},
            {"mount": "/srv", "type": "xfs", "size": size * 64 * GIB, "free": size * 40 * GIB, "reflink": True},
            {"mount": "/var/lib/domsnap", "type": "ext4", "size": size * 16 * GIB, "free": size * 12 * GIB},
        ],
        "records": [],
    }  # fmt: skip


def _domain(number: int) -> dict[str, Any]:
    name, domid = f"d{number:05}", number + 1
    image, log, volume = f"/srv/vm/{name}.qcow2", f"/srv/vm/{name}-log.raw", f"vg0/data{number:05}"
    return {
        "name": name, "uuid": f"bbe9b839-51d1-4ac0-8ea2-{number:012x}", "type": "pvh", "state": "running",
        "memory": GIB, "domid": domid, "xl_monitor": {"pid": 10_000 + number, "started": 87_000, "exe": "/usr/sbin/xl"},
        "qemu": {
            "process": {"pid": 100_000 + number, "started": 88_001, "exe": "/usr/libexec/xen-qemu-system-i386"},
            "version": "10.0.0", "monitor": f"/var/run/xen/qmp-libxenstat-{domid}",
        },
        "disks": [
            {"vdev": "xvda", "backend": "qdisk", "format": "qcow2", "target": image, "path": image,
             "capacity": 10 * GIB, "nodes": [{"name": f"xen-{domid}-51712", "file": image, "path": image}]},
            {"vdev": "xvdb", "backend": "phy", "format": "raw", "target": f"/dev/{volume}", "path": f"/dev/{volume}",
             "capacity": 8 * GIB, "volume": volume},
            {"vdev": "xvdc", "backend": "phy", "format": "raw", "target": log, "path": log, "capacity": 2 * GIB},
        ],
    }  # fmt: skip


def _images(number: int) -> Iterator[dict[str, Any]]:
    for offset, (tail, form, capacity) in enumerate(((".qcow2", "qcow2", 10 * GIB), ("-log.raw", "raw", 2 * GIB))):
        yield {
            "path": f"/srv/vm/d{number:05}{tail}", "format": form, "capacity": capacity, "allocated": capacity // 2,
            "inode": f"2049:{1000 + number * 2 + offset}",
        }  # fmt: skip


if __name__ == "__main__":
    main()
