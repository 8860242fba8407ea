"""What `domsnap observe` sees of a real host: what each domain was given, in every state that a domain can be in."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from planner.facts import Facts, facts_from_json
from schema.read import read_json
from tests.xen.dom0 import Dom0
from tests.xen.domain import Domain

DISKS = {"xvda": "qcow2", "xvdb": "qdisk", "xvdc": "loop", "xvdd": "thick", "xvde": "thin"}
FOUR = {vdev: DISKS[vdev] for vdev in ("xvda", "xvdc", "xvdd", "xvde")}
# kind of disk -> its backend, which xl chooses where the configuration does not say
BACKENDS = {kind: "qdisk" if kind in ("qcow2", "qdisk") else "phy" for kind in DISKS.values()}


def observed(dom0: Dom0) -> Facts:
    """Return what is observed, held against the schema."""
    return facts_from_json(read_json("facts", dom0.ask("domsnap observe").encode(), "observed"))


@pytest.mark.parametrize("kind", ["pv", pytest.param("pvh", marks=pytest.mark.smoke), "hvm", "hvm-ide"])
def test_a_domain_has_what_its_configuration_says(dom0: Dom0, kind: str, release: str) -> None:
    domain = made(dom0, kind, FOUR if kind == "hvm-ide" else DISKS)
    facts = observed(dom0)
    (seen,) = facts.domains
    assert (seen.name, seen.domid, seen.state) == ("web01", domain.domid(), "running")
    assert (seen.type, seen.memory) == (kind.partition("-")[0], 128 * 2**20)
    assert {disk.vdev: disk.target for disk in seen.disks} == domain.paths
    for disk in seen.disks:
        what = domain.disks[disk.vdev]
        assert (disk.backend, disk.format) == (BACKENDS[what], "qcow2" if what == "qcow2" else "raw"), disk
        assert disk.capacity == 16 * 2**20 and disk.writable and not disk.cdrom, disk
        assert bool(disk.nodes) == (disk.backend == "qdisk"), disk
        assert bool(disk.volume) == (what in ("thick", "thin")), disk
        assert bool(disk.device) == (kind == "hvm-ide" and disk.backend == "qdisk"), disk
    assert {volume.name: volume.kind for volume in facts.volumes if volume.name.startswith("web01")} == {
        "web01-xvdd": "linear",
        "web01-xvde": "thin",
    }
    assert seen.xl_monitor and seen.qemu
    assert facts.host.xen.startswith({"bookworm": "4.17", "trixie": "4.20"}[release])
    assert seen.qemu.version.startswith({"bookworm": "7.2", "trixie": "10.0"}[release])
    assert next(disk for disk in facts.filesystems if disk.mount == "/srv/xfs").reflink
    gone(domain)


@pytest.fixture
def preserved(dom0: Dom0) -> Iterator[Domain]:
    """Yield a domain that stays when its guest ends."""
    domain = made(dom0, "pvh", {"xvda": "qcow2"})
    dom0.ask("xl destroy web01; echo \"on_poweroff = 'preserve'\" >>/srv/vm/web01.cfg")
    domain.create()
    yield domain
    gone(domain)


def test_a_state_is_seen_for_what_it_is(preserved: Domain) -> None:
    dom0 = preserved.dom0
    dom0.ask("xl pause web01")
    assert states(dom0) == ["paused"]
    dom0.ask("xl unpause web01")
    for change, state in (("xl shutdown web01", "shut-down"), ("xl sysrq web01 c", "crashed")):
        dom0.ask(f"{change}; for each in $(seq 100); do xl list web01 | grep -q -e '--s' && break; sleep 0.2; done")
        assert states(dom0) == [state], dom0.ask("xl list")
        dom0.ask("xl destroy web01")
        preserved.create()


def states(dom0: Dom0) -> list[str]:
    return [domain["state"] for domain in json.loads(dom0.ask("domsnap observe"))["domains"]]


def made(dom0: Dom0, kind: str, disks: dict[str, str]) -> Domain:
    domain = Domain(dom0, "web01", kind, disks)
    domain.create()
    return domain


def gone(domain: Domain) -> None:
    """End the domain, and its disks."""
    domain.dom0.ask(f"xl destroy {domain.name}")
    domain.remove()
