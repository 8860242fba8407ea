"""Single outputs: every recorded list, every recorded error, and what only odd hosts print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from executor.parse import filesystems, lvm, qemu_img, qmp, xenstore, xl, zstd
from planner.facts import State, Volume
from schema.diagnostic import Refused
from tests.executor.recordings import HOSTS, RECORDED, folder

every_host = pytest.mark.parametrize("host", HOSTS)
ERRORS = sorted(RECORDED.glob("*/err.*.txt"))


@pytest.mark.parametrize(
    "list_,mail",
    [("xl-list.txt", "running"), ("xl-list.paused.txt", "paused"), ("xl-list.shutdown.txt", "shut-down")],
)
@every_host
def test_every_recorded_list_gives_the_state_it_was_recorded_for(host: str, list_: str, mail: State) -> None:
    rows = {row.name: row.state for row in xl.rows((folder(host) / list_).read_text())}
    assert rows["mail"] == mail
    assert {state for name, state in rows.items() if name != "mail"} == {"running"}


@every_host
def test_the_verbose_list_adds_the_uuid(host: str) -> None:
    plain = list(xl.rows((folder(host) / "xl-list.txt").read_text()))
    verbose = list(xl.rows((folder(host) / "xl-list-v.txt").read_text()))
    assert [(row.name, row.domid) for row in plain] == [(row.name, row.domid) for row in verbose]
    assert {row.uuid for row in plain} == {""}
    assert all(len(row.uuid) == 36 for row in verbose)


@pytest.mark.parametrize(
    "letters,state",
    [
        ("r-----", "running"), ("-b----", "running"), ("------", "running"), ("--p---", "paused"), ("-bp---", "paused"),
        ("---s--", "shut-down"), ("---sr-", "rebooting"), ("---ss-", "suspended"), ("---sc-", "crashed"),
        ("---sw-", "crashed"), ("---sS-", "rebooting"), ("--pss-", "suspended"), ("-b-ss-", "suspended"),
        ("-----d", "dying"), ("--ps-d", "dying"), ("---scd", "dying"),
    ],
)  # fmt: skip
def test_the_letters_of_xl_list_mean_one_state(letters: str, state: State) -> None:
    assert xl.state(letters) == state


@pytest.mark.parametrize("name", ["a b", "web  01", "7 8 9", "x 1 96 1 r----- 5.0", "r-----", "Name"])
def test_a_name_with_spaces_is_read_from_the_right(name: str) -> None:
    heading = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
    text = f"{heading}\n{name:<40} {12:5} {96:5} {1:5}     -b----  {5.04:8.1f}\n"
    assert [(row.name, row.domid, row.state) for row in xl.rows(text)] == [(name, 12, "running")]


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_error_text_is_never_taken_for_an_answer(path: Path) -> None:
    text = path.read_text()
    for read in (lambda: list(xl.rows(text)), lambda: list(xl.configurations(text)), lambda: xenstore.entries(text)):
        with pytest.raises(Refused):
            read()
    with pytest.raises(Refused, match="no line 'xen_version'"):
        xl.host(text)


def test_all_recorded_errors_are_tried() -> None:
    assert len(ERRORS) == 8


def test_devices_that_cannot_be_saved_are_named() -> None:
    config = {
        "domid": 1,
        "config": {
            "c_info": {"name": "a", "type": "hvm"},
            "b_info": {"target_memkb": 1, "vnuma_nodes": [{}], "dm_restrict": "True"},
            "pcidevs": [{"bus": 3, "dev": 16, "func": 1}],
            "vtpms": [{"devid": 0}],
        },
    }
    (found,) = xl.configurations(json.dumps([config]))
    assert found.devices == ("the PCI device 0000:03:10.1", "the virtual TPM 0")
    assert found.vnuma
    assert found.dm_restrict


def test_values_of_the_store_are_unescaped() -> None:
    assert xenstore.entries('/a/b = "x\\\\y\\tz\\n\\x7f\\001 = \\""\n/c = ""') == {
        "/a/b": 'x\\y\tz\n\x7f\x01 = "',
        "/c": "",
    }


def test_permissions_behind_a_value_are_no_part_of_it() -> None:
    assert xenstore.entries('/a = "b"   (n0,r1)') == {"/a": "b"}


def test_a_disk_of_a_driver_domain_names_that_domain() -> None:
    where = "/local/domain/5/backend/vbd/1/51712"
    said = {"/libxl/1/device/vbd/51712/backend": where}
    said |= {f"{where}/{key}": value for key, value in {"dev": "xvda", "params": "/dev/x", "mode": "r"}.items()}
    (backend,) = xenstore.backends(said, 1, xenstore.disks(said)[1])
    assert (backend.domain, backend.kind, backend.writable, backend.capacity) == (5, "phy", False, 0)


@pytest.mark.parametrize("kind,said,name", [("qdisk", "qdisk", "qdisk"), ("vbd3", "tap", "tap"), ("vbd", "phy", "phy")])
def test_the_folder_of_the_backend_names_its_kind(kind: str, said: str, name: str) -> None:
    where = f"/local/domain/0/backend/{kind}/1/51712"
    store = {"/libxl/1/device/vbd/51712/backend": where}
    store |= {
        f"{where}/{key}": v for key, v in {"dev": "xvda", "params": "vhd:/a:b", "mode": "w", "type": said}.items()
    }
    (backend,) = xenstore.backends(store, 1, xenstore.disks(store)[1])
    assert backend.kind == name
    if kind == "qdisk":
        assert (backend.format, backend.path) == ("vhd", "/a:b")


def test_the_transcript_of_lvm_gives_every_kind_of_volume() -> None:
    text = (RECORDED / "lvm-2.03.31-transcript.txt").read_text()
    reports = [
        f'{{"report": [{part.partition(chr(10) + "  }")[0]}}}' for part in text.split('{\n      "report": [')[1:]
    ]
    volumes = {volume.name: volume for report in reports if '"lv"' in report for volume in lvm.volumes(report)}
    assert {name: volume.kind for name, volume in volumes.items()} == {
        "cache": "thin", "cache-old": "thin", "cache-s1": "thin", "cache-s2": "thin", "db": "linear",
        "db-big": "thick-snapshot", "db-s1": "thick-snapshot", "pool": "thin-pool",
    }  # fmt: skip
    assert volumes["db-s1"].origin == "db"
    assert volumes["db-s1"].invalid  # it had overflown
    assert not volumes["db-big"].invalid
    assert volumes["db-big"].data_percent == 70.88
    assert volumes["cache"].origin == "cache-old"


def test_lvm_tags_are_a_list() -> None:
    row = dict.fromkeys(("vg_name", "lv_name", "lv_uuid", "pool_lv", "origin", "data_percent", "metadata_percent"), "")
    row |= {"lv_size": "1", "lv_attr": "Vwi---tz-k", "segtype": "thin", "lv_tags": "a,b"}
    (volume,) = lvm.volumes(json.dumps({"report": [{"lv": [row]}]}))
    assert volume.tags == ("a", "b")
    assert not volume.active


def test_a_host_without_lvm_has_no_volumes() -> None:
    assert not list(lvm.volumes(""))
    assert not list(lvm.groups(""))
    assert lvm.version("") == ""
    # As Debian's print it: 12's and 13's, and 11's.
    assert zstd.version("*** Zstandard CLI (64-bit) v1.5.4, by Yann Collet ***\n") == "1.5.4"
    assert zstd.version("*** zstd command line interface 64-bits v1.4.8, by Yann Collet ***\n") == "1.4.8"
    assert zstd.version("") == ""


def test_hyphens_are_doubled_in_a_mapper_name() -> None:
    volume = Volume("vg-a", "lv-b", "", 1, "linear")
    assert lvm.mapper_path(volume) == "/dev/mapper/vg--a-lv--b"


def test_a_mount_point_with_spaces_and_the_later_of_two_mounts_are_read() -> None:
    findmnt = {"filesystems": [
        {"target": "/", "fstype": "ext4", "children": [{"target": "/my disk", "fstype": "ext4"},
                                                       {"target": "/my disk", "fstype": "vfat"}]}]}  # fmt: skip
    df = "Filesystem 1-blocks Used Available Capacity Mounted on\na b 100 40 60 40% /my disk\nnone 0 0 0 - /\n"
    found = list(filesystems.filesystems(json.dumps(findmnt), df, {"/"}))
    assert [(each.mount, each.type, each.free, each.reflink, each.hard_links) for each in found] == [
        ("/my disk", "vfat", 60, False, False),
        ("/", "ext4", 0, True, True),
    ]


def test_relative_names_of_images_are_those_of_the_image_s_folder() -> None:
    text = (folder("xen-4.20") / "qemu-img-info.clone.qcow2.json").read_text()
    clone, base = qemu_img.images("/srv/vm/clone.qcow2", text, {"/srv/vm/web01.qcow2": "1:2"})
    assert (clone.backing, clone.backing_format, clone.inode) == ("/srv/vm/web01.qcow2", "qcow2", "")
    assert (base.path, base.inode, base.cluster_size) == ("/srv/vm/web01.qcow2", "1:2", 65536)


@pytest.mark.parametrize(
    "name,file",
    [
        ("/a", "/a"),
        ("file:/a", "/a"),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/a b"}}', "/a b"),
        ('json:{"backing": {"filename": "/no"}, "file": {"file": {"filename": "/a"}}}', "/a"),
        ("json:{broken", "json:{broken"),
    ],
)
def test_a_name_that_qemu_made_up_is_brought_back_to_the_file(name: str, file: str) -> None:
    assert qemu_img.plain_name(name) == file


def test_without_the_graph_two_nodes_of_one_name_are_not_guessed_at() -> None:
    def node(name: str, file: str, backing: str = "") -> dict[str, str]:
        return {"node-name": name, "drv": "qcow2", "file": file, "backing_file": backing}

    nodes = [node("top", "/p~new", "/p"), node("a", "/p"), node("b", "/p")]
    inserted = {"node-name": "top", "image": {"virtual-size": 1}}
    answers = {qmp.BLOCK: json.dumps([{"inserted": inserted}]), qmp.NODES: json.dumps(nodes)}
    with pytest.raises(Refused, match="several nodes are called '/p'"):
        list(qmp.drives(answers))
    graph = {
        "nodes": [{"id": 1, "name": "top"}, {"id": 2, "name": "b"}, {"id": 3, "name": "#block3"}],
        "edges": [{"name": "backing", "parent": 1, "child": 2}, {"name": "file", "parent": 1, "child": 3}],
    }
    (drive,) = qmp.drives({**answers, qmp.GRAPH: json.dumps(graph)})
    assert drive.nodes == (("top", "/p~new", "#block3"), ("b", "/p", ""))


@pytest.mark.parametrize(
    "said,vdev", [("xvda0", "xvda"), ("xvdaa0", "xvdaa"), ("hda0", "hda"), ("xvda1", "xvda1"), ("xvda10", "xvda10")]
)
def test_the_vdev_that_qemu_answers_is_brought_to_the_name_in_the_configuration(said: str, vdev: str) -> None:
    """A node that an earlier snapshot made says nothing of its disk; the device does."""
    node = {"node-name": "ds-0123456789-x", "drv": "qcow2", "file": "/a"}
    block = {"qdev": "/machine/1", "inserted": {"node-name": "ds-0123456789-x", "image": {"virtual-size": 1}}}
    answers = {qmp.BLOCK: [block], qmp.NODES: [node], qmp.VDEVS: {"/machine/1": said}}
    (drive,) = qmp.drives({command: json.dumps(answer) for command, answer in answers.items()})
    assert drive.vdev == vdev


def test_the_answer_that_a_real_qemu_gave_is_one_of_those() -> None:
    assert '< {"return": "xvda0"}' in (RECORDED / "dom0-2026-11.txt").read_text()


def test_the_list_of_a_real_host_may_say_running_and_blocked_at_once() -> None:
    assert " rb---- " in (RECORDED / "dom0-2026-11.txt").read_text()
    assert xl.state("rb----") == "running"
