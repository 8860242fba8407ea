"""The recorded outputs of two real hosts become the facts in specs/facts/, which the examples are planned over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from executor.observe import facts, facts_document
from executor.outputs import Outputs, Running
from executor.parse import domains, xl
from executor.parse.domains import xl_monitor
from executor.parse.qmp import WRITES, Drive
from executor.parse.xenstore import Backend
from planner.facts import Disk, Node, facts_from_json
from schema.diagnostic import Refused
from tests.executor.recordings import HOSTS, outputs

KEPT = Path(__file__).parents[2] / "specs" / "facts"
every_host = pytest.mark.parametrize("host", HOSTS)


@every_host
def test_the_facts_in_specs_are_those_of_the_recording(host: str, request: pytest.FixtureRequest) -> None:
    text = json.dumps(facts_document(outputs(host)), indent=2, ensure_ascii=False) + "\n"
    if request.config.getoption("--update"):
        (KEPT / f"{host}.json").write_text(text)
    assert (KEPT / f"{host}.json").read_text() == text


@every_host
def test_the_document_read_again_gives_the_same_facts(host: str) -> None:
    assert facts_from_json(facts_document(outputs(host))) == facts(outputs(host))


@every_host
def test_the_live_backend_is_that_of_xenstore_which_xl_list_does_not_name(host: str) -> None:
    web01 = facts(outputs(host)).domain("web01")
    assert web01
    assert {disk.vdev: (disk.backend, disk.format) for disk in web01.disks} == {
        "xvda": ("qdisk", "qcow2"),
        "xvdb": ("phy", "raw"),
        "xvdc": ("phy", "raw"),
        "xvdd": ("phy", "raw"),
    }
    assert [disk.volume for disk in web01.disks] == ["", "", "vg0/db", "vg0/cache"]
    assert {disk.capacity for disk in web01.disks} == {64 * 2**20}


@every_host
def test_only_disks_that_qemu_serves_have_nodes(host: str) -> None:
    nodes = {disk.vdev: disk.nodes for domain in facts(outputs(host)).domains for disk in domain.disks if disk.nodes}
    assert nodes == {
        "xvda": (Node("xvda-qcow2", "/srv/vm/mail.qcow2", "/srv/vm/mail.qcow2"),),
        "hda": (Node("hda-qcow2", "/srv/vm/win.qcow2", "/srv/vm/win.qcow2"),),
        "xvdb": (Node("xvdb-raw", "/srv/vm/win-d.raw", "/srv/vm/win-d.raw"),),
    }


@every_host
def test_an_empty_cd_drive_is_a_disk_without_a_medium(host: str) -> None:
    win = facts(outputs(host)).domain("win")
    assert win
    (drive,) = [disk for disk in win.disks if disk.cdrom]
    assert (drive.vdev, drive.target, drive.format, drive.writable, drive.nodes) == ("hdc", "", "empty", False, ())


@every_host
def test_memory_is_what_the_domain_was_given_not_what_the_list_rounds_down(host: str) -> None:
    assert {domain.memory for domain in facts(outputs(host)).domains} == {96 * 2**20}


@every_host
def test_dom0_is_no_domain_to_snapshot(host: str) -> None:
    assert [domain.name for domain in facts(outputs(host)).domains] == ["web01", "mail", "win"]


def test_a_clone_is_seen_as_a_child_of_the_disk_it_was_made_from() -> None:
    assert [child.path for child in facts(outputs("xen-4.17")).children("/srv/vm/web01.qcow2")] == [
        "/srv/vm/clone.qcow2"
    ]


def test_a_guest_that_was_asked_to_shut_down_is_shutting_down() -> None:
    said = outputs("xen-4.17")
    asked = said.xenstore.replace('/2/control/shutdown = ""', '/2/control/shutdown = "poweroff"')
    states = {domain.name: domain.state for domain in facts(replace(said, xenstore=asked)).domains}
    assert states == {"web01": "running", "mail": "shutting-down", "win": "running"}


def test_a_target_under_dev_mapper_is_the_same_logical_volume() -> None:
    said = outputs("xen-4.17")
    other = replace(
        said,
        xenstore=said.xenstore.replace('"/dev/vg0/db"', '"/dev/mapper/vg0-db"'),
        xl_list_long=said.xl_list_long.replace("/dev/vg0/db", "/dev/mapper/vg0-db"),
    )
    web01 = facts(other).domain("web01")
    assert web01
    assert [(d.target, d.path, d.volume) for d in web01.disks if d.vdev == "xvdc"] == [
        ("/dev/mapper/vg0-db", "/dev/vg0/db", "vg0/db")
    ]


def test_a_symbolic_link_is_followed_for_the_path_alone() -> None:
    said = outputs("xen-4.17")
    other = replace(said, links={"/srv/vm/mail.qcow2": "/data/mail.qcow2"})
    mail = facts(other).domain("mail")
    assert mail
    assert [(disk.target, disk.path) for disk in mail.disks] == [("/srv/vm/mail.qcow2", "/data/mail.qcow2")]


def test_the_xl_monitor_is_the_xl_that_writes_the_domain_s_log() -> None:
    xl = "/usr/lib/xen-4.17/bin/xl"
    processes = (
        Running(1, 10, xl, "/var/log/xen/xl-web.log"),
        Running(2, 20, xl, "/var/log/xen/xl-web01.log.1"),  # logrotate was here
        Running(3, 30, "/usr/bin/tail", "/var/log/xen/xl-web01.log"),
        Running(4, 40, xl, "/dev/pts/0"),
    )
    found = xl_monitor(processes, "web01")
    assert found and found.pid == 2
    assert xl_monitor(processes, "web0.") is None


def test_a_device_model_that_does_not_answer_serves_nothing_that_a_plan_could_use() -> None:
    said = outputs("xen-4.17")
    mail = facts(replace(said, qmp={1: said.qmp[1], 3: said.qmp[3]})).domain("mail")
    assert mail and mail.qemu
    assert (mail.qemu.status, mail.qemu.monitor, mail.disks[0].nodes) == ("unreachable", "", ())


def test_a_disk_that_xen_s_block_backend_serves_has_no_nodes_though_qemu_has_its_emulated_drive_open() -> None:
    said = outputs("xen-4.17")
    elsewhere = replace(said, xenstore=said.xenstore.replace("qdisk/3/768", "vbd/3/768"))
    win = facts(elsewhere).domain("win")
    assert win
    assert [(disk.backend, disk.nodes) for disk in win.disks if disk.vdev == "hda"] == [("phy", ())]


@pytest.mark.parametrize("connected,device", [(True, ""), (False, "ide0-hd0")])
@pytest.mark.parametrize("vdev", ["hda", "xvda"])
def test_an_hvm_guest_uses_the_emulated_drive_until_its_own_driver_is_connected(
    vdev: str, connected: bool, device: str
) -> None:
    drives = (
        Drive("ide0-hd0", "", (("#block1", "/a", "#block0"),), 1),
        Drive("", vdev, ((f"{vdev}-qcow2", "/a", "#block0"),), 1),
    )
    backend = Backend(vdev, "qdisk", 0, "qcow2:/a", True, False, 1, connected)
    found = domains._drive(drives, backend, {vdev, "xvdb"})
    assert found and found.device == device
    assert domains._drive(drives[:1], backend, {vdev}) == drives[0]
    assert domains._drive(drives[1:], backend, {vdev}) == drives[1]


def test_beside_an_hda_an_xvda_is_not_emulated() -> None:
    drives = (
        Drive("ide0-hd0", "", (("#block1", "/a", "#block0"),), 1),
        Drive("", "xvda", (("xvda-qcow2", "/b", "#block2"),), 1),
    )
    backend = Backend("xvda", "qdisk", 0, "qcow2:/b", True, False, 1, False)
    assert domains._drive(drives, backend, {"hda", "xvda"}) == drives[1]


@pytest.mark.parametrize(
    "device,restored,writes,starting",
    [
        ("ide0-hd0", False, 4, True),
        ("ide0-hd0", False, 900, False),  # its system is at work
        ("ide0-hd0", True, 0, False),  # it was at work before
        ("", False, 0, False),
    ],
)
def test_an_hvm_guest_that_has_hardly_written_may_yet_go_over_to_its_own_drivers(
    device: str, restored: bool, writes: int, starting: bool
) -> None:
    said = outputs("xen-4.17")
    win = next(config for config in xl.configurations(said.xl_list_long) if config.name == "win")
    stats = [{"device": name, "stats": {"wr_operations": count}} for name, count in (("ide0-hd0", writes), ("", 900))]
    asked = replace(said, qmp={win.domid: {WRITES: json.dumps(stats)}})
    disk = Disk("hda", "qdisk", "qcow2", "/a", "/a", 1, device=device)
    assert domains._starting(asked, win, Running(1, 2, "", restored=restored), (disk,)) == starting


def test_a_dying_domain_without_a_configuration_is_passed_over() -> None:
    said = outputs("xen-4.17")
    row = "gone                                         9     0     1     --ps-d       1.0 " + "0" * 8 + "-0000" * 3
    dying = replace(said, xl_list=said.xl_list + row + "-000000000000        -                -\n")
    assert facts(dying) == facts(said)


HELD = {
    "vdev": "xvda", "method": "lvm", "backend": "phy", "format": "raw", "path": "/dev/vg0/db", "capacity": 7,
    "holder": "vg0/db-s1", "tag": "domsnap.old.s1",
}  # fmt: skip
RECORD = {
    "version": 1, "domain": "old", "uuid": "bbe9b839-51d1-4ac0-8ea2-25778e7005b1", "type": "pvh", "snapshot": "s1",
    "folder": "/elsewhere", "taken": "2026-11-23T07:34:00Z", "memory_size": 5, "disks": [HELD],
}  # fmt: skip


def test_a_domain_that_is_off_is_known_from_its_newest_record() -> None:
    newer = {**RECORD, "snapshot": "s2", "taken": "2027-01-01T00:00:00Z", "memory_size": 6}
    records = {"/store/old/s2": json.dumps(newer), "/store/old/s1": json.dumps(RECORD)}
    there = facts(replace(outputs("xen-4.17"), records=records, current={"old": "s2\n"}))
    old = there.domain("old")
    assert old and (old.state, old.domid, old.memory) == ("off", None, 6)
    assert [(disk.path, disk.volume) for disk in old.disks] == [("/dev/vg0/db", "vg0/db")]
    assert [record.folder for record in there.records] == ["/store/old/s2", "/store/old/s1"]
    assert there.current == {"old": "s2"}


Spoil = Callable[[Outputs], Outputs]
SPOILT: dict[str, tuple[Spoil, str, str]] = {
    "no JSON": (lambda o: replace(o, xl_list_long="libxl: error"), "`xl list -l`", "libxl: error"),
    "no configuration": (lambda o: replace(o, xl_list_long="[]"), "`xl list -l`", "no domain 1"),
    "an unknown type": (
        lambda o: replace(o, xl_list_long=o.xl_list_long.replace('"pvh"', '"zx81"')),
        "`xl list -l`",
        "zx81",
    ),
    "no heading": (lambda o: replace(o, xl_list="command not found"), "`xl list -v`", "command not found"),
    "a torn line": (lambda o: replace(o, xl_list=o.xl_list + "web02   12  96"), "`xl list -v`", "web02   12  96"),
    "no version": (lambda o: replace(o, xl_info=o.xl_info.replace("xen_version", "xen_v")), "`xl info`", "xen_version"),
    "words for memory": (lambda o: replace(o, xl_info=o.xl_info.replace("2737", "much")), "`xl info`", "much"),
    "a store that is no store": (
        lambda o: replace(o, xenstore="xenstore-ls: no"),
        "`xenstore-ls -f`",
        "xenstore-ls: no",
    ),
    "a backend without a mode": (
        lambda o: replace(o, xenstore=_without(o.xenstore, "/mode")),
        "`xenstore-ls -f`",
        "mode",
    ),
    "a backend of no form": (
        lambda o: replace(o, xenstore=o.xenstore.replace('"/local/domain/0/backend/qdisk/1', '"/x')),
        "`xenstore-ls -f`",
        "backend",
    ),
    "no such process": (lambda o: replace(o, processes=()), "`xenstore-ls -f`", "506"),
    "df in words": (lambda o: replace(o, df=o.df + "df: /x: denied\n"), "`df --block-size=1 --portability`", "denied"),
    "findmnt without a mount": (
        lambda o: replace(o, findmnt=o.findmnt.replace('"/run"', '"/walk"')),
        "`findmnt --json`",
        "/run",
    ),
    "lvs without a column": (lambda o: replace(o, lvs=o.lvs.replace("segtype", "s")), "`lvs`", "segtype"),
    "a size with a unit": (lambda o: replace(o, lvs=o.lvs.replace('"67108864"', '"64m"')), "`lvs`", "64m"),
    "a percentage in words": (lambda o: replace(o, lvs=o.lvs.replace('"10.94"', '"ten"')), "`lvs`", "ten"),
    "short letters": (lambda o: replace(o, lvs=o.lvs.replace("Vwi-aotz--", "V")), "`lvs`", "lv_attr"),
    "no lvm version": (lambda o: replace(o, lvm_version="not found"), "`lvm version`", "not found"),
    "no qemu-img version": (lambda o: replace(o, qemu_img_version="?"), "`qemu-img --version`", "?"),
    "no zstd version": (lambda o: replace(o, zstd_version="?"), "`zstd --version`", "?"),
    "an image without a size": (
        lambda o: replace(o, qemu_img_info={"/a": '[{"filename": "a", "format": "raw"}]'}),
        "qemu-img info",
        "virtual-size",
    ),
    "QEMU not asked": (
        lambda o: replace(o, qmp={**o.qmp, 1: {"query-version": "{}"}}),
        "`query-named-block-nodes`",
        "",
    ),
}


def _without(text: str, ending: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.split(" = ")[0].endswith(ending))


@pytest.mark.parametrize("case", SPOILT)
def test_an_output_that_cannot_be_read_names_its_command_and_is_quoted(case: str) -> None:
    spoil, command, quoted = SPOILT[case]
    with pytest.raises(Refused) as refused:
        facts_document(spoil(outputs("xen-4.17")))
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.summary == "the host's answer cannot be read"
    assert command in diagnostic.detail
    assert quoted in diagnostic.detail
    assert diagnostic.hint


@pytest.mark.parametrize("wrong", [{"version": 2}, {"disks": 7}, {"state": "lost"}])
def test_a_record_that_is_not_valid_is_refused_by_the_name_of_its_file(wrong: dict[str, object]) -> None:
    records = {"/store/old/s1": json.dumps({**RECORD, **wrong})}
    with pytest.raises(Refused) as refused:
        facts_document(replace(outputs("xen-4.17"), records=records))
    assert {d.position.file for d in refused.value.diagnostics if d.position} == {"/store/old/s1/record.json"}
