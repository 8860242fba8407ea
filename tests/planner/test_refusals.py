"""What is refused, with which words: the planner says all of it at once and never plans half of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.commands import Qmp, Rename, Run
from planner.compile import compile_plan, offline_facts
from planner.facts import Disk, Domain, Facts, Image, Node
from planner.plan import Verb
from schema import spec as language
from schema.diagnostic import Refused
from schema.spec import Spec
from tests.planner.hosts import (
    GIB,
    UUID,
    domain,
    facts,
    off,
    qcow2,
    raw,
    raw_on_qemu,
    spec,
    taken,
    volume,
)


def refused(verb: Verb, declared: Spec, there: Facts, **other: bool) -> str:
    with pytest.raises(Refused) as caught:
        compile_plan(verb, declared, there, **other)
    return "\n".join(f"{d.summary}: {d.detail} ({d.hint})" for d in caught.value.diagnostics)


def disk(vdev: str, method: language.Method, **other: object) -> Spec:
    return spec(disks=(replace(language.Disk(vdev, method), **other),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "state", ["paused", "suspended", "shut-down", "crashed", "rebooting", "dying", "shutting-down", "off"]
)
def test_a_domain_that_xl_cannot_save_is_refused_with_the_reason(state: str) -> None:
    said = refused("create", spec(), facts(domain(state=state)))
    assert f"the domain is {state.replace('-', ' ')}" in said
    assert "web01: " in said


@pytest.mark.parametrize("state", ["paused", "suspended", "dying", "shutting-down", "rebooting"])
def test_a_revert_that_could_not_keep_the_present_is_refused(state: str) -> None:
    there = taken(spec(), facts())
    there = replace(there, domains=(replace(there.domains[0], state=state),))  # type: ignore[arg-type]
    assert f"the domain is {state.replace('-', ' ')}" in refused("revert", spec(), there)


def test_a_paused_domain_is_reverted_when_its_present_is_given_up() -> None:
    there = taken(spec(), facts())
    there = replace(there, domains=(replace(there.domains[0], state="paused"),))
    plan = compile_plan("revert", spec(), there, discard_current=True)
    assert any("holds in it now" in line for line in plan.destroys)


@pytest.mark.parametrize(
    "there,words",
    [
        (domain(vnuma=True), "vNUMA"),
        (domain(devices=("the PCI device 00:1b.0",)), "the PCI device 00:1b.0"),
    ],
)
def test_what_no_snapshot_can_hold_is_named(there: Domain, words: str) -> None:
    assert words in refused("create", spec(), facts(there))


def test_a_running_block_job_is_named() -> None:
    there = domain()
    assert there.qemu
    assert "commit0" in refused("create", spec(), facts(replace(there, qemu=replace(there.qemu, jobs=("commit0",)))))


@pytest.mark.parametrize("verb,snapshot", [("create", "two"), ("delete", "before-upgrade")])
def test_a_guest_that_may_yet_go_over_to_its_pv_drivers_has_no_disk_that_qemu_is_asked_for(
    verb: Verb, snapshot: str
) -> None:
    there = taken(spec(), facts(domain(type="hvm")))
    there = replace(there, domains=(replace(there.domains[0], starting=True),))
    assert "the guest is still starting: web01" in refused(verb, spec(snapshot), there)


def test_it_is_reverted_by_programs_that_need_no_qemu() -> None:
    there = taken(spec(), facts(domain(type="hvm")))
    there = replace(there, domains=(replace(there.domains[0], starting=True),))
    assert compile_plan("revert", spec(), there).steps


def test_it_has_a_snapshot_that_qemu_is_not_asked_for() -> None:
    there = facts(replace(domain(disks=(raw(),)), starting=True))
    assert compile_plan("create", spec(disks=()), there).steps


def test_an_unknown_domain_names_those_that_exist() -> None:
    said = refused("create", replace(spec(), domain="web1"), facts())
    assert "dom0 has no domain web1; it has web01 (did you mean 'web01'?)" in said


def test_an_unknown_disk_names_those_that_exist() -> None:
    said = refused("create", disk("xvdz", "internal"), facts())
    assert "web01 has no disk xvdz; it has xvda, xvdb, xvdc, xvdd, xvde" in said


@pytest.mark.parametrize(
    "declared,words",
    [
        (disk("xvdb", "internal"), "an internal snapshot needs a qcow2 image: xvdb is raw"),
        (disk("xvdb", "external"), "an external snapshot needs a qcow2 image: xvdb is raw"),
        (disk("xvda", "reflink"), "reflink needs a raw image: xvda is qcow2"),
        (disk("xvda", "copy"), "copy needs a raw image: xvda is qcow2"),
        (disk("xvdc", "copy"), "copy needs an image file: /dev/vg0/db is a block device"),
        (disk("xvda", "lvm"), "not a logical volume: /srv/vm/web01.qcow2 is not one"),
        (disk("xvdd", "lvm", size=GIB), "a thin snapshot has no size: vg0/cache is thin"),
        (disk("xvda", "vhd"), "vhd needs a VHD image under tapdisk: xvda is qcow2 on qdisk"),
        (disk("xvda", "internal", format="raw"), "the spec and the host disagree: xvda has the format qcow2, not raw"),
        (disk("xvda", "internal", target="/x"), "xvda has the target /srv/vm/web01.qcow2, not /x"),
    ],
)
def test_a_method_that_does_not_fit_the_disk_is_refused(declared: Spec, words: str) -> None:
    assert words in refused("create", declared, facts())


def test_everything_wrong_is_said_at_once() -> None:
    declared = spec(disks=(language.Disk("xvdb", "internal"), language.Disk("xvdz", "copy")))
    said = refused("create", declared, facts(domain(state="crashed")))
    assert "crashed" in said and "xvdz" in said and "xvdb is raw" in said


@pytest.mark.parametrize(
    "there,words",
    [
        (raw(backend_domain=3), "its backend is in domain 3"),
        (raw(backend="standalone"), "raw on standalone"),
        (raw(path="/dev/sdb", target="/dev/sdb"), "raw on phy"),
        (qcow2(backend="tap"), "qcow2 on tap"),
    ],
)
def test_a_disk_without_a_safe_method_is_named_and_exclude_is_offered(there: Disk, words: str) -> None:
    said = refused("create", spec(), facts(domain(there)))
    assert words in said and "method: exclude" in said


def test_qemu_without_node_names_is_refused() -> None:
    assert "QEMU before 4.0 gives none" in refused("create", spec(), facts(domain(qcow2(nodes=()))))


def test_a_disk_shared_with_another_domain_is_refused() -> None:
    other = domain(qcow2(), name="web02", uuid="0", domid=8)
    assert "is also the disk of web02 (xvda)" in refused("create", spec(), facts(domain(qcow2()), other))


def test_no_room_for_the_memory_image_is_refused_with_the_numbers() -> None:
    there = facts()
    small = tuple(replace(each, free=100 * 2**20) for each in there.filesystems)
    said = refused("create", spec(), replace(there, filesystems=small))
    assert "not enough space: /: needs 1060 MiB (memory image), 100 MiB are free" in said


def test_no_room_in_the_volume_group_is_refused() -> None:
    there = facts()
    full = tuple(replace(each, free=GIB) for each in there.volume_groups)
    assert "vg0: needs 4116 MiB (xvdc snapshot), 1024 MiB are free" in refused(
        "create", spec(), replace(there, volume_groups=full)
    )


def test_a_smaller_thick_snapshot_is_taken_with_a_warning() -> None:
    plan = compile_plan("create", disk("xvdc", "lvm", size=GIB), facts())
    assert any("becomes invalid once 1024 MiB of vg0/db" in warning.text for warning in plan.warnings)


@pytest.mark.parametrize("percent,words", [(96.0, "refused"), (85.0, "warned"), (50.0, "silent")])
def test_a_thin_pool_near_full_is_refused_or_warned_of(percent: float, words: str) -> None:
    there = facts()
    volumes = tuple(replace(each, data_percent=percent) if each.name == "pool" else each for each in there.volumes)
    there = replace(there, volumes=volumes)
    if words == "refused":
        assert "the data of vg0/pool is 96 % full" in refused("create", spec(), there)
    else:
        warned = any("thin pool" in warning.text for warning in compile_plan("create", spec(), there).warnings)
        assert warned == (words == "warned")


def test_lvm_refuses_names_it_keeps_for_itself() -> None:
    said = refused("create", spec("a_tdata"), facts(domain(volume("xvdc", "db"))))
    assert "LVM keeps names with '_tdata' in them for itself" in said


@pytest.mark.parametrize(
    "kind,caps,words", [("pv", ("pv", "hap"), "shadow"), ("pvh", ("hvm",), "hap"), ("hvm", (), "hap")]
)
def test_a_live_capture_is_refused_where_xen_cannot_track_writes(kind: str, caps: tuple[str, ...], words: str) -> None:
    there = facts(domain(qcow2(), type=kind))
    there = replace(there, host=replace(there.host, virt_caps=caps))
    said = refused("create", spec(memory=language.Memory("live")), there)
    assert words in said and "capture: paused" in said


def test_without_zstd_nothing_is_compressed_and_nothing_that_is_can_be_reverted_to() -> None:
    declared = spec(memory=language.Memory(compress="zstd"))
    there = facts()
    without = replace(there, host=replace(there.host, zstd=""))
    assert "no zstd on this host: " in refused("create", declared, without)
    after = taken(declared, there)
    assert after.records[0].compressed and compile_plan("revert", declared, after).steps
    assert "apt install zstd" in refused("revert", declared, replace(after, host=without.host))
    assert compile_plan("delete", declared, replace(after, host=without.host)).steps
    as_it_came = replace(after.records[0], memory=after.records[0].images[0], shrunk=False)
    assert compile_plan("revert", declared, replace(after, host=without.host, records=(as_it_came,))).steps


@pytest.mark.parametrize("memory", [
    language.Memory(compress="zstd", file="/srv/x"), language.Memory("live", compress="zstd", file="/srv/x"),
    language.Memory("live", file="/srv/x"), language.Memory("live", compact=False, file="/srv/x"),
])  # fmt: skip
def test_the_names_of_all_that_becomes_of_an_image_are_proved_free_before_the_guest_stops(
    memory: language.Memory,
) -> None:
    plan = compile_plan("create", spec(memory=memory, disks=(language.Disk("xvda", "external"),)), facts())
    before = [c for step in plan.steps if step.phase == "prepare" for c in step.checks if isinstance(c, Run)]
    proved = {c.argv[3] for c in before if c.argv[:3] == ("test", "!", "-e") and c.argv[3].startswith("/srv/x")}
    ends = ["", *([".zst"] if memory.compress else [".compact"] * (memory.capture == "live" and memory.compact))]
    assert proved == {"/srv/x.part", *(f"/srv/x{end}{more}" for end in ends for more in ("", ".sha256"))}


def test_a_live_capture_of_hvm_takes_no_internal_snapshot_before_qemu_10_and_no_copy_job() -> None:
    live = language.Memory("live")
    assert "only QEMU 10 says so; this is 7.2.22" in refused(
        "create", spec(memory=live), facts(domain(qcow2(), type="hvm"))
    )
    declared = spec(memory=live, disks=(language.Disk("xvde", "copy"),))
    assert "no copy job in a live capture" in refused("create", declared, facts(domain(raw_on_qemu(), type="hvm")))


@pytest.mark.parametrize("version", ["", "unknown", "11"])
def test_a_qemu_whose_version_is_not_known_is_refused_or_taken_but_never_a_crash(version: str) -> None:
    silent = domain(qcow2(), type="hvm")
    assert silent.qemu
    there = facts(replace(silent, qemu=replace(silent.qemu, version=version)))
    declared = spec(memory=language.Memory("live"))
    if version == "11":
        assert compile_plan("create", declared, there).steps
    else:
        assert f"this is {version or 'unknown'}" in refused("create", declared, there)


def test_an_existing_snapshot_that_matches_is_nothing_to_do() -> None:
    plan = compile_plan("create", spec(), taken(spec(), facts()))
    assert plan.steps == () and plan.note == "web01/before-upgrade exists and is what the spec declares"


def test_an_existing_snapshot_that_differs_is_refused_with_the_difference() -> None:
    there = taken(spec(), facts())
    said = refused("create", disk("xvda", "external"), there)
    assert "a snapshot of this name exists and differs: web01/before-upgrade: it holds xvda by internal" in said


def test_a_revert_to_what_is_not_there_names_what_is() -> None:
    said = refused("revert", spec("nothing"), taken(spec(), facts()))
    assert "web01 has no snapshot nothing; it has before-upgrade" in said


def test_a_revert_to_a_half_deleted_snapshot_is_refused() -> None:
    there = taken(spec(), facts())
    there = replace(there, records=(replace(there.records[0], state="deleting"),))
    assert "is being deleted" in refused("revert", spec(), there)
    assert compile_plan("delete", spec(), there).steps


def test_drift_of_the_disks_is_shown_and_refused_unless_allowed() -> None:
    there = taken(spec(), facts(domain(qcow2(), raw())))
    changed = domain(qcow2(capacity=20 * GIB), volume("xvdc", "db"))
    there = replace(there, domains=(changed,))
    said = refused("revert", spec(), there)
    assert "xvda had 10737418240 bytes and has 21474836480" in said
    assert "xvdb was removed since" in said and "xvdc was added since" in said
    plan = compile_plan("revert", spec(), there, allow_drift=True)
    assert sum("knows nothing of it" in warning.text for warning in plan.warnings) == 3


def test_a_revert_without_memory_to_restore_into_is_refused() -> None:
    there = off(taken(spec(), facts()))
    there = replace(there, host=replace(there.host, memory_free=GIB // 2))
    assert "not enough memory to restore the domain" in refused("revert", spec(), there)


@pytest.mark.parametrize("lost", ["/srv/vm/web01-data.raw.before-upgrade", "/srv/vm/web01-log.raw.before-upgrade"])
def test_a_snapshot_that_has_lost_a_file_is_not_reverted_to(lost: str) -> None:
    there = taken(spec(), facts())
    there = replace(there, images=tuple(image for image in there.images if image.path != lost))
    assert "the snapshot has lost a disk" in refused("revert", spec(), there)


def test_a_snapshot_volume_that_overflowed_is_not_reverted_to() -> None:
    there = taken(spec(), facts())
    volumes = tuple(replace(each, invalid=each.name == "db-before-upgrade") for each in there.volumes)
    assert "has overflowed" in refused("revert", spec(), replace(there, volumes=volumes))


def test_an_image_with_another_child_is_not_deleted_and_the_blockers_are_named() -> None:
    declared = disk("xvda", "external")
    there = taken(declared, facts(domain(qcow2())))
    clone = Image("/srv/vm/clone.qcow2", "qcow2", 10 * GIB, GIB, "8:8", backing="/srv/vm/web01.qcow2.before-upgrade")
    said = refused("delete", declared, replace(there, images=(*there.images, clone)))
    assert "the image /srv/vm/clone.qcow2" in said


def test_qemus_stale_name_of_a_frozen_image_is_mended_before_anything_is_written() -> None:
    one, two = disk("xvda", "external"), replace(disk("xvda", "external"), snapshot="two")
    there = taken(two, taken(one, facts(domain(qcow2()))))
    titles = [step.title for step in compile_plan("delete", one, there).steps]
    taught = titles.index("xvda: let QEMU open /srv/vm/web01.qcow2.two by its name of today")
    assert titles[taught + 1].startswith("xvda: copy the data of /srv/vm/web01.qcow2.before-upgrade into")
    for other in (compile_plan("delete", one, off(there)), compile_plan("delete", two, there)):
        assert not any("name of today" in step.title for step in other.steps)


def test_before_qemu_9_the_file_that_it_had_until_then_is_held_meanwhile() -> None:
    one, two = disk("xvda", "external"), replace(disk("xvda", "external"), snapshot="two")
    there = taken(two, taken(one, facts(domain(qcow2()))))

    def sent(version: str, there: Facts = there) -> list[str]:
        who = there.domains[0]
        assert who.qemu
        there = replace(there, domains=(replace(who, qemu=replace(who.qemu, version=version)),))
        (step,) = (each for each in compile_plan("delete", one, there).steps if "by its name of today" in each.title)
        return [command.execute for command in step.do if isinstance(command, Qmp)]

    for version in ("7.2.22", "8.2.0"):
        assert sent(version) == ["blockdev-add", "blockdev-add", "blockdev-reopen", "blockdev-del"]
    for version in ("9.0.0", "10.0.2"):
        assert sent(version) == ["blockdev-add", "blockdev-reopen"]
    who = there.domains[0]
    disks = tuple(replace(each, nodes=tuple(replace(n, file_node="") for n in each.nodes)) for each in who.disks)
    unknown = replace(there, domains=(replace(who, disks=disks),))
    assert sent("10.0.2", unknown) == sent("10.0.2")
    with pytest.raises(Refused) as caught:
        sent("7.2.22", unknown)
    assert "by which node QEMU 7.2.22 has it open" in caught.value.diagnostics[0].detail


def test_a_qemu_that_cannot_be_told_the_true_name_is_not_written_through() -> None:
    one, two = disk("xvda", "external"), replace(disk("xvda", "external"), snapshot="two")
    there = taken(two, taken(one, facts(domain(qcow2()))))
    who = there.domains[0]
    assert who.qemu
    there = replace(there, domains=(replace(who, qemu=replace(who.qemu, version="5.2.0")),))
    said = refused("delete", one, there)
    assert "QEMU knows this image by another file's name" in said and "delete the snapshot of" in said


def test_an_internal_snapshot_in_a_frozen_image_is_not_deleted_while_it_has_a_child() -> None:
    inside = disk("xvda", "internal")
    outside = replace(disk("xvda", "external"), snapshot="later")
    there = taken(outside, taken(inside, facts(domain(qcow2()))))
    moved = replace(there.records[0], disks=(replace(there.records[0].disks[0], holder="/srv/vm/web01.qcow2.later"),))
    there = replace(there, records=(moved, there.records[1]))
    assert "is the backing file of /srv/vm/web01.qcow2" in refused("delete", inside, there)
    plan = compile_plan("revert", inside, there)
    assert any(
        "copy snapshot before-upgrade of /srv/vm/web01.qcow2.later into a new image" in step.title
        for step in plan.steps
    )


def test_offline_names_everything_that_is_left_unsaid() -> None:
    with pytest.raises(Refused) as caught:
        offline_facts(spec(disks=(language.Disk("xvda", "internal", target="/srv/a.qcow2"),)))
    said = "\n".join(d.detail for d in caught.value.diagnostics)
    assert "`assume` is missing" in said
    assert "xvda leaves out `format`, `backend`, `capacity`" in said


def test_an_offline_plan_is_compiled_from_the_spec_alone() -> None:
    assume = language.Assume("4.17", "7.2", 7, UUID, "pvh", GIB)
    said = (
        language.Disk("xvda", "external", "/srv/a.qcow2", "qcow2", "qdisk", capacity=GIB),
        language.Disk("xvdb", "lvm", "/dev/vg0/db", "raw", "phy", size=GIB, capacity=GIB),
        language.Disk("xvdc", "lvm", "/dev/vg0/cache", "raw", "phy", capacity=GIB),
    )
    declared = spec(assume=assume, disks=said, memory=language.Memory(compress="zstd"))  # zstd is taken to be there
    plan = compile_plan("create", declared, offline_facts(declared), offline=True)
    assert plan.offline and any("xvda-qcow2" in repr(step.do) for step in plan.steps)
    assert [step.title for step in plan.steps if "LVM" in step.title] == [
        "xvdb: LVM snapshot vg0/db-before-upgrade (thick, 1024 MiB)",
        "xvdc: LVM snapshot vg0/cache-before-upgrade (thin)",
    ]
    assert any("next reboot leaves it dead" in warning.text for warning in plan.warnings)


@pytest.mark.parametrize("verb", ["revert", "delete"])
def test_only_a_creation_can_be_planned_offline(verb: Verb) -> None:
    with pytest.raises(Refused, match=f"no {verb} can be planned offline"):
        compile_plan(verb, spec(), facts(), offline=True)


def test_a_passing_name_is_never_one_that_qemu_still_knows_a_file_by() -> None:
    known = Node("ds-1-xvda", "/srv/vm/web01.qcow2.before-upgrade~new", "/srv/vm/web01.qcow2")
    plan = compile_plan("create", disk("xvda", "external"), facts(domain(qcow2(nodes=(known,)))))
    taken_over = [command for step in plan.steps for command in step.do if isinstance(command, Rename)]
    assert taken_over[0] == Rename("/srv/vm/web01.qcow2.before-upgrade~new2", "/srv/vm/web01.qcow2")


def test_a_disk_that_was_replaced_since_is_drift() -> None:
    there = taken(spec(), facts(domain(qcow2())))
    there = replace(there, domains=(domain(qcow2(path="/srv/vm/other.qcow2")),))
    said = refused("revert", spec(), there)
    assert "xvda was /srv/vm/web01.qcow2 and is /srv/vm/other.qcow2" in said
