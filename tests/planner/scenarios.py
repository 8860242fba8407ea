"""Plans of every verb and method, on every type of domain: what the rules of a whole plan are tested over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.compile import compile_plan
from planner.facts import Disk, Facts
from planner.plan import Plan
from schema import spec as language
from schema.spec import Spec
from tests.planner.hosts import GIB, all_kinds, domain, facts, off, qcow2, raw, raw_on_qemu, spec, taken, volume

EXTERNAL = (language.Disk("xvda", "external"),)
MIXED = (
    language.Disk("xvda", "external"), language.Disk("xvdb", "copy"), language.Disk("xvdc", "lvm", size=GIB),
    language.Disk("xvde", "copy"),
)  # fmt: skip


def situations() -> Iterator[tuple[str, Spec, Facts]]:
    """Yield (name, spec, facts) of snapshots that can be taken."""
    yield "every kind by default", spec(), facts()
    yield "external, copies, thick", spec(disks=MIXED), facts()
    yield "one excluded", spec(disks=(language.Disk("xvdb", "exclude", reason="swap"),)), facts()
    for kind in ("pv", "pvh", "hvm"):
        yield f"{kind}, external", spec(disks=EXTERNAL), facts(domain(qcow2(), type=kind))
        yield f"{kind}, internal", spec(), facts(domain(qcow2(), type=kind))
    newer = facts(domain(*all_kinds()))
    newer = replace(newer, host=replace(newer.host, xen="4.20.5"))
    yield "Xen 4.20", spec(), newer
    limits = language.GiveUp(600, times=3.0)
    yield "live, PVH", spec(memory=language.Memory("live", give_up=limits), disks=MIXED), facts()
    yield "live, PVH, compressed", spec(memory=language.Memory("live", compress="zstd")), facts()
    yield "compressed", spec(memory=language.Memory(compress="zstd"), disks=EXTERNAL), facts(domain(qcow2()))
    qemu_10 = domain(qcow2(), type="hvm")
    assert qemu_10.qemu
    qemu_10 = replace(qemu_10, qemu=replace(qemu_10.qemu, version="10.0.13"))
    yield "live, HVM, internal on QEMU 10", spec(memory=language.Memory("live")), facts(qemu_10)
    yield "no QEMU at all", spec(), facts(domain(raw("xvda"), volume("xvdb", "db"), qemu=None))
    yield "raw on QEMU alone", spec(disks=(language.Disk("xvda", "copy"),)), facts(domain(raw_on_qemu("xvda")))
    tap = Disk("xvda", "tap", "vhd", "/srv/vm/a.vhd", "/srv/vm/a.vhd", GIB, device="4711/0")
    yield "vhd", spec(), facts(domain(tap, qemu=None))


def plans() -> Iterator[tuple[str, Plan]]:
    for name, declared, there in situations():
        yield f"create: {name}", compile_plan("create", declared, there)
        after = taken(declared, there)
        again = replace(declared, snapshot="later")
        yield f"create again: {name}", compile_plan("create", again, after)
        for place, now in (("running", after), ("off", off(after))):
            yield f"revert, {place}: {name}", compile_plan("revert", declared, now)
            yield (
                f"revert, {place}, present given up: {name}",
                compile_plan("revert", declared, now, discard_current=True),
            )
            if not ("vhd" in name and place == "running"):
                yield f"delete, {place}: {name}", compile_plan("delete", declared, now)
        crashed = replace(after.domains[0], state="crashed")
        yield f"revert, crashed: {name}", compile_plan("revert", declared, replace(after, domains=(crashed,)))
        twice = taken(again, after)
        yield f"delete the newer of two: {name}", compile_plan("delete", again, off(twice) if name == "vhd" else twice)
        yield f"revert to the older of two: {name}", compile_plan("revert", declared, twice)
