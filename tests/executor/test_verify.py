"""What a snapshot needs is fine, lost, altered, or cannot be checked - each kind of damage done for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.holders import Holders
from executor.store import shelves
from executor.verify import finding, verify
from planner.facts import Held, Record
from tests.executor.kept import MIB, Store, qemu_img, write
from tests.oracles.guest import open_as_xen_does
from tests.oracles.machine import Machine, machine

SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def found(record: Record, holders: Holders | None = None) -> dict[str, tuple[str, str]]:
    """Return outcome and detail of each thing."""
    return {each.what: (each.outcome, each.detail) for each in verify(record, holders or Holders())}


def only(record: Record, what: str) -> tuple[str, str]:
    """Return what is found of one thing, and hold that all else is fine."""
    said = found(record)
    assert [name for name, (outcome, _) in said.items() if outcome != "fine" and name != what] == []
    return said[what]


@pytest.fixture
def whole(store: Store) -> Record:
    """Return a snapshot with a disk of each kind that can be made here."""
    disks = [store.internal("one"), store.external("one"), store.copy("one")]
    return store.put("one", [*disks, Held("xvdd", "exclude", "phy", "raw", "/dev/vg0/swap", MIB, reason="swap")])


def test_a_whole_snapshot_is_fine(whole: Record) -> None:
    said = found(whole)
    assert {name: outcome for name, (outcome, _) in said.items()} == dict.fromkeys(
        ["record", "memory", "xvda", "xvdb", "xvdc", "xvdd"], "fine"
    )
    assert said["xvda"][1].startswith("snapshot one in ")
    assert said["xvdb"][1].endswith("base.qcow2")
    assert said["xvdd"][1] == "nothing is held: swap"


def test_nothing_is_changed_by_looking(whole: Record, store: Store) -> None:
    def state() -> dict[str, tuple[int, int]]:
        files = [path for path in store.root.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    before = state()
    found(whole)
    assert state() == before


def test_an_older_snapshot_is_fine_under_newer_ones(store: Store) -> None:
    first = store.put("first", [store.internal("first"), store.external("first")])
    second = store.put("second", [store.internal("second"), store.external("second")])
    holders = Holders()
    for record in (first, second):
        assert {outcome for outcome, _ in found(record, holders).values()} == {"fine"}


# --- memory


def memory(record: Record) -> Path:
    return Path(record.memory)


def test_progress_is_told_to_the_end(whole: Record) -> None:
    told: list[tuple[int, int]] = []
    list(verify(whole, Holders(), lambda done, size: told.append((done, size))))
    size = memory(whole).stat().st_size
    assert told[-1] == (size, size)


def test_a_domain_that_was_off_has_no_memory_to_lose(store: Store) -> None:
    assert only(store.put("one", memory=""), "memory") == ("fine", "the domain was off: it had no memory")


def test_a_memory_image_that_is_gone_is_lost(whole: Record) -> None:
    memory(whole).unlink()
    assert only(whole, "memory") == ("lost", f"{whole.memory} is not there")


def test_a_store_that_was_moved_is_told_from_one_that_lost_its_memory(store: Store, tmp_path: Path) -> None:
    store.put("one")
    store.path.rename(tmp_path / "moved")
    moved = shelves(str(tmp_path / "moved"))[0].records[0]
    outcome, detail = only(moved, "memory")
    assert outcome == "lost"
    assert f"{tmp_path}/moved/web01/one/memory is: was the folder moved?" in detail


@pytest.mark.parametrize("end", [0, 31, 100, 5000, -1])
def test_a_memory_image_that_was_cut_is_altered(whole: Record, end: int) -> None:
    memory(whole).write_bytes(memory(whole).read_bytes()[:end])
    outcome, detail = only(whole, "memory")
    assert outcome == "altered"
    assert "not a whole memory image" in detail


def test_a_flipped_bit_in_a_page_is_found_by_the_digest_alone(whole: Record) -> None:
    data = bytearray(memory(whole).read_bytes())
    data[len(data) // 2] ^= 1
    memory(whole).write_bytes(data)
    assert only(whole, "memory") == ("altered", f"{whole.memory} is not what was written: its SHA-256 is another")


def test_a_memory_image_that_became_a_link_is_altered(whole: Record, tmp_path: Path) -> None:
    memory(whole).rename(tmp_path / "memory")
    memory(whole).symlink_to(tmp_path / "memory")
    assert only(whole, "memory") == ("altered", f"{whole.memory}: a symbolic link is in its place")


def test_a_pipe_in_the_place_of_the_memory_is_not_waited_at(whole: Record) -> None:
    memory(whole).unlink()
    os.mkfifo(memory(whole))
    assert only(whole, "memory") == ("altered", f"{whole.memory}: a named pipe is in its place")


def test_a_path_that_is_not_absolute_is_not_looked_for(whole: Record, store: Store) -> None:
    record = replace(whole, memory="memory")
    store.write(record)
    assert only(record, "memory") == ("altered", "memory is not an absolute path")


def test_a_name_with_a_nul_is_no_surprise(whole: Record, store: Store) -> None:
    disks = tuple(replace(held, holder=held.holder + "\0") for held in whole.disks)
    record = replace(whole, memory=whole.memory + "\0", disks=(*disks, replace(disks[0], holder="/dev/\0")))
    store.write(record)
    assert {outcome for outcome, _ in found(record).values()} == {"fine", "altered"}


def digest(record: Record) -> Path:
    return Path(f"{record.memory}.sha256")


def test_without_its_digest_the_memory_is_not_fine(whole: Record) -> None:
    digest(whole).unlink()
    outcome, detail = only(whole, "memory")
    assert outcome == "lost"
    assert f"{digest(whole)} is not there" in detail


@pytest.mark.parametrize("text", ["", "garbage\n", "0" * 64 + "\n", "{line}{line}", "{line}more", "\xff" * 20000])
def test_a_digest_that_is_none_is_altered(whole: Record, text: str) -> None:
    digest(whole).write_text(text.replace("{line}", digest(whole).read_text()))
    outcome, detail = only(whole, "memory")
    assert outcome == "altered"
    assert "does not hold one SHA-256" in detail


def test_a_digest_of_another_file_proves_nothing(whole: Record) -> None:
    digest(whole).write_text(digest(whole).read_text().replace("/one/", "/two/"))
    outcome, detail = only(whole, "memory")
    assert outcome == "altered"
    assert "is about" in detail


def test_the_digest_is_the_one_that_sha256sum_reads(whole: Record) -> None:
    assert subprocess.run(["sha256sum", "--check", "--status", "--strict", digest(whole)], check=False).returncode == 0


# --- images


def image(record: Record, vdev: str) -> Path:
    return Path(next(held.holder for held in record.disks if held.vdev == vdev))


@pytest.mark.parametrize("vdev", ["xvda", "xvdb", "xvdc"])
def test_a_file_that_is_gone_is_lost(whole: Record, vdev: str) -> None:
    image(whole, vdev).unlink()
    assert only(whole, vdev) == ("lost", f"{image(whole, vdev)} is not there")


@pytest.mark.parametrize("vdev", ["xvda", "xvdb", "xvdc"])
def test_a_file_that_became_a_link_or_a_pipe_is_altered(whole: Record, vdev: str, tmp_path: Path) -> None:
    path = image(whole, vdev)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert only(whole, vdev) == ("altered", f"{path}: a symbolic link is in its place")
    path.unlink()
    os.mkfifo(path)
    assert only(whole, vdev) == ("altered", f"{path}: a named pipe is in its place")


def test_a_missing_tag_is_lost_and_the_tags_that_are_there_are_said(whole: Record, store: Store) -> None:
    store.internal("two")
    qemu_img("snapshot", "-d", "one", image(whole, "xvda"))
    assert only(whole, "xvda") == ("lost", f"{image(whole, 'xvda')} holds no snapshot one; it holds two")


def test_a_backing_file_that_is_gone_is_named_with_what_rests_on_it(whole: Record, store: Store) -> None:
    (store.images / "base.qcow2").unlink()
    detail = f"{store.images}/base.qcow2 is not there; {image(whole, 'xvdb')} rests on it"
    assert only(whole, "xvdb") == ("lost", detail)


def test_a_backing_file_may_be_a_link_of_the_administrator(whole: Record, store: Store, tmp_path: Path) -> None:
    (store.images / "base.qcow2").rename(tmp_path / "elsewhere")
    (store.images / "base.qcow2").symlink_to(tmp_path / "elsewhere")
    assert only(whole, "xvdb")[0] == "fine"


def test_a_backing_file_that_became_a_pipe_is_not_waited_at(whole: Record, store: Store) -> None:
    (store.images / "base.qcow2").unlink()
    os.mkfifo(store.images / "base.qcow2")
    assert only(whole, "xvdb")[0] == "altered"


def test_an_image_that_rests_on_itself_is_altered(whole: Record) -> None:
    path = image(whole, "xvdb")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", path, "-F", "qcow2", path)
    assert only(whole, "xvdb") == ("altered", f"{path} rests on itself")


@pytest.mark.parametrize("backing", ["nbd://localhost:1/x", 'json:{"driver":"nbd","host":"localhost","port":"1"}'])
def test_what_is_no_file_of_this_host_is_not_opened(whole: Record, backing: str) -> None:
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", backing, "-F", "raw", image(whole, "xvdb"))
    outcome, detail = only(whole, "xvdb")
    assert outcome == "unchecked"
    assert "is no file of this host" in detail


def test_a_raw_backing_file_is_not_opened_whatever_a_guest_wrote_into_it(whole: Record, store: Store) -> None:
    base = store.images / "base.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "/nowhere", "-F", "raw", base, "8M")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", base, "-F", "raw", image(whole, "xvdb"))
    assert only(whole, "xvdb")[0] == "fine"


def test_without_a_format_said_a_backing_file_is_what_it_begins_like(store: Store) -> None:
    held = store.external("one")
    record = store.put("one", [held])
    # qemu-img makes no such image any more; those of old tools are there still
    data = bytearray(Path(held.holder).read_bytes())
    at = data.index((0xE2792ACA).to_bytes(4, "big"))
    data[at : at + 4] = b"\x7f\x7f\x7f\x7f"
    Path(held.holder).write_bytes(data)
    assert "backing-filename-format" not in qemu_img("info", "--output=json", held.holder)
    assert only(record, "xvdb")[0] == "fine"
    (store.images / "base.qcow2").write_bytes(bytes(MIB))
    assert only(record, "xvdb")[0] == "fine"


@pytest.mark.parametrize("vdev", ["xvda", "xvdb"])
def test_an_image_that_is_none_any_more_is_altered(whole: Record, vdev: str) -> None:
    image(whole, vdev).write_bytes(bytes(MIB))
    assert only(whole, vdev) == ("altered", f"{image(whole, vdev)} is no qcow2 image any more")


@pytest.mark.parametrize("vdev", ["xvda", "xvdb"])
@pytest.mark.parametrize("size", [100, 200 * 1024, -128 * 1024])
def test_an_image_that_was_cut_is_altered(whole: Record, vdev: str, size: int) -> None:
    path = image(whole, vdev)
    os.truncate(path, size if size > 0 else path.stat().st_size + size)
    outcome, _ = found(whole)[vdev]
    assert outcome in ("altered", "lost")  # the table of tags is the last thing in the file, and may be what was cut


def damage(path: Path) -> None:
    """Turn an entry of the first L2 table, found as QEMU's docs/interop/qcow2.txt says, into nonsense."""
    with path.open("r+b") as file:
        file.seek(40)
        file.seek(int.from_bytes(file.read(8), "big"))
        file.seek((int.from_bytes(file.read(8), "big") & 0x00FFFFFFFFFFFE00) + 5)
        file.write(b"\xff\x12")


@pytest.mark.parametrize("vdev", ["xvda", "xvdb"])
def test_damaged_tables_are_found(whole: Record, vdev: str) -> None:
    damage(image(whole, vdev))
    outcome, detail = only(whole, vdev)
    assert outcome == "altered"
    assert f"the tables of {image(whole, vdev)} are damaged" in detail


def test_damaged_tables_of_an_image_below_are_found(whole: Record, store: Store) -> None:
    write(store.images / "base.qcow2", 1)
    damage(store.images / "base.qcow2")
    assert f"{store.images}/base.qcow2 are damaged" in only(whole, "xvdb")[1]


def test_damage_to_what_two_snapshots_rest_on_is_said_of_both(store: Store) -> None:
    records = [store.put(name, [store.internal(name)]) for name in ("one", "two")]
    damage(image(records[0], "xvda"))
    holders = Holders()
    assert [found(record, holders)["xvda"][0] for record in records] == ["altered", "altered"]


def test_an_image_that_qemu_has_marked_is_altered(whole: Record) -> None:
    with image(whole, "xvda").open("r+b") as file:  # incompatible feature 1
        file.seek(79)
        file.write(b"\x02")
    assert only(whole, "xvda") == ("altered", f"QEMU has marked {image(whole, 'xvda')} as corrupt")


def test_leaked_clusters_do_no_harm(whole: Record) -> None:
    path = image(whole, "xvda")
    os.truncate(path, 200 * 65536)
    with path.open("r+b") as file:
        file.seek(48)
        file.seek(int.from_bytes(file.read(8), "big"))  # the table of refcounts
        file.seek(int.from_bytes(file.read(8), "big") + 2 * 100)  # the hundredth cluster's
        file.write(b"\0\1")
    said = subprocess.run(["qemu-img", "check", "-f", "qcow2", path], check=False, capture_output=True)
    assert said.returncode == 3
    assert only(whole, "xvda")[0] == "fine"


def test_a_frozen_image_that_was_resized_is_altered(whole: Record) -> None:
    qemu_img("resize", "-q", "-f", "qcow2", image(whole, "xvdb"), "16M")
    assert only(whole, "xvdb") == ("altered", f"{image(whole, 'xvdb')} has {16 * MIB} bytes; the disk had {8 * MIB}")


def test_a_copy_of_another_length_is_altered(whole: Record) -> None:
    os.truncate(image(whole, "xvdc"), MIB - 512)
    assert only(whole, "xvdc") == ("altered", f"{image(whole, 'xvdc')} has {MIB - 512} bytes; the disk had {MIB}")


def test_a_copy_may_end_inside_a_sector(whole: Record) -> None:
    os.truncate(image(whole, "xvdc"), MIB - 511)
    assert only(whole, "xvdc")[0] == "fine"


@pytest.mark.parametrize("vdev", ["xvdb", "xvdc"])
def test_what_is_held_must_not_be_the_disk_itself(whole: Record, vdev: str) -> None:
    held = next(held for held in whole.disks if held.vdev == vdev)
    Path(held.path).unlink()
    os.link(held.holder, held.path)
    outcome, detail = only(whole, vdev)
    assert outcome == "altered"
    assert "the guest writes to it" in detail


# --- images in use


@contextmanager
def guest(tmp_path: Path, image: Path) -> Iterator[Machine]:
    """Have a real QEMU open an image as Xen's does: without locks."""
    folder = tmp_path / "qemu"
    folder.mkdir()
    with machine(folder) as qemu:
        open_as_xen_does(qemu, image)
        yield qemu


def test_an_image_that_a_running_qemu_writes_to_gives_no_false_alarm(whole: Record, tmp_path: Path) -> None:
    with guest(tmp_path, image(whole, "xvda")) as qemu:
        for number in range(4):
            tag = {"device": "n0", "name": f"more{number}"}
            qemu("blockdev-snapshot-internal-sync", tag)
            assert "wrote" in qemu.io("n0", f"write -P {number} 0 4M")
            assert only(whole, "xvda")[0] == "fine"
            qemu.io("n0", "discard 1M 1M")
            qemu("blockdev-snapshot-delete-internal-sync", tag)
            assert only(whole, "xvda")[0] == "fine"


def test_an_image_with_lazy_refcounts_is_not_checked_while_it_is_open(whole: Record, tmp_path: Path) -> None:
    path = image(whole, "xvda")
    qemu_img("amend", "-f", "qcow2", "-o", "lazy_refcounts=on", path)
    with guest(tmp_path, path) as qemu:
        qemu.io("n0", "write -P 9 6M 1M")
        outcome, detail = only(whole, "xvda")
    assert outcome == "fine"
    assert f"the tables of {path} were not checked" in detail


def test_damage_seen_while_somebody_writes_is_not_believed(
    whole: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(whole, "xvda")
    damage(path)
    programs(tmp_path, monkeypatch, **{"qemu-img": f'touch {path}; exec {shutil.which("qemu-img")} "$@"'})
    outcome, detail = only(whole, "xvda")
    assert outcome == "unchecked"
    assert "it is being written to" in detail


# --- volumes, and programs that are not there


def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Put programs in sh before those of the host."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("DOMSNAP_PATH", f"{folder}:{SEARCH}")


THIN = {"vg_name": "vg0", "lv_name": "db-one", "lv_uuid": "I2luml", "lv_path": "/dev/vg0/db-one", "lv_size": f"{MIB}",
        "lv_attr": "Vwi---tz--", "lv_tags": "nightly,domsnap.web01.one", "pool_lv": "pool", "origin": "db",
        "data_percent": "1.00", "metadata_percent": "", "segtype": "thin", "lv_health_status": ""}  # fmt: skip
THICK = {**THIN, "lv_attr": "swi-a-s---", "pool_lv": "", "segtype": "linear", "lv_size": "4194304"}


@pytest.fixture
def volume(store: Store) -> Record:
    held = Held("xvda", "lvm", "phy", "raw", "/dev/vg0/db", MIB, "vg0/db-one", "domsnap.web01.one")
    return store.put("one", [held])


@pytest.mark.parametrize(
    "row,outcome,words",
    [
        (THIN, "fine", "vg0/db-one"),
        (THICK, "fine", "vg0/db-one, 1 % full"),
        ({**THIN, "lv_name": "db-two"}, "lost", "there is no volume vg0/db-one"),
        ({**THIN, "vg_name": "vg1"}, "lost", "there is no volume vg0/db-one"),
        ({**THIN, "lv_tags": ""}, "altered", "has no tag domsnap.web01.one"),
        ({**THIN, "lv_tags": "domsnap.web01.one2"}, "altered", "has no tag domsnap.web01.one"),
        ({**THIN, "lv_size": "4096"}, "altered", f"has 4096 bytes; the disk had {MIB}"),
        ({**THICK, "lv_attr": "swi-I-s---"}, "altered", "has overflowed"),
        ({**THICK, "origin": "cache"}, "altered", "is a snapshot of vg0/cache, not of /dev/vg0/db"),
        ({**THIN, "lv_health_status": "partial"}, "lost", "LVM says of vg0/db-one: partial"),
        ({**THIN, "lv_health_status": "failed"}, "altered", "LVM says of vg0/db-one: failed"),
        ({**THIN, "lv_attr": "V"}, "unchecked", "lv_attr is too short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_volume_is_what_lvs_says(
    volume: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], outcome: str, words: str
) -> None:
    text = json.dumps({"report": [{"lv": [row]}]})
    programs(tmp_path, monkeypatch, lvs=f"case $* in *lv_health_status*) cat <<'E'\n{text}\nE\nesac")
    said = only(volume, "xvda")
    assert said[0] == outcome
    assert words in said[1]


def test_lvs_is_asked_once_for_many_snapshots(volume: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"report": [{"lv": [THIN]}]})
    programs(tmp_path, monkeypatch, lvs=f"echo >>{tmp_path}/calls; echo '{text}'")
    holders = Holders()
    for _ in range(3):
        assert found(volume, holders)["xvda"][0] == "fine"
    assert (tmp_path / "calls").read_text() == "\n"


@pytest.mark.parametrize(
    "script,words",
    [
        ("echo broken >&2; exit 5", "broken"),
        ("echo nothing", "not JSON"),
        ("""echo '{"report": [{"lv": []}]}'; echo 'VG vg0 is missing PVs' >&2; exit 5""", "VG vg0 is missing PVs"),
    ],
)
def test_an_lvs_that_fails_does_not_make_a_volume_lost(
    volume: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    programs(tmp_path, monkeypatch, lvs=script)
    outcome, detail = only(volume, "xvda")
    assert outcome == "unchecked"
    assert words in detail


def test_without_lvs_a_volume_cannot_be_checked(
    volume: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOMSNAP_PATH", str(tmp_path))
    assert only(volume, "xvda") == ("unchecked", "vg0/db-one: this host has no lvs")


def test_without_qemu_img_what_is_there_is_told_from_what_is_not(
    whole: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOMSNAP_PATH", str(tmp_path))
    image(whole, "xvdb").unlink()
    said = found(whole)
    assert (said["xvda"][0], said["xvdb"][0], said["xvdc"][0]) == ("unchecked", "lost", "fine")
    assert "without qemu-img" in said["xvda"][1]


def test_a_qemu_img_that_fails_means_an_altered_image_only_if_it_says_so(
    whole: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("qemu-img")
    programs(tmp_path, monkeypatch, **{"qemu-img": f'case $1 in check) exit 1;; esac; exec {real} "$@"'})
    assert found(whole)["xvda"][0] == "unchecked"
    programs(tmp_path, monkeypatch, **{"qemu-img": "echo '{}'"})
    assert found(whole)["xvda"][0] == "unchecked"
    programs(tmp_path, monkeypatch, **{"qemu-img": "kill -9 $$"})
    assert found(whole)["xvda"][0] == "unchecked"


@pytest.mark.parametrize(
    "end,outcome", [(b"conectix" + bytes(504), "unchecked"), (bytes(512), "altered"), (b"", "altered")]
)
def test_a_vhd_is_known_by_its_footer_and_no_more_is(store: Store, end: bytes, outcome: str) -> None:
    path = store.images / "xvda.vhd"
    path.write_bytes(end)
    record = store.put("one", [Held("xvda", "vhd", "tap", "vhd", "/srv/xvda.vhd", MIB, str(path))])
    assert only(record, "xvda")[0] == outcome
    path.unlink()
    assert only(record, "xvda")[0] == "lost"


# --- the record


def test_a_snapshot_that_is_being_deleted_is_not_looked_at(store: Store) -> None:
    record = store.put("one", [store.internal("one")], state="deleting")
    ((what, (outcome, detail)),) = found(record).items()
    assert (what, outcome) == ("record", "lost")
    assert "--delete" in detail


@pytest.mark.parametrize("how", ["deleted", "being deleted", "rewritten"])
def test_what_goes_on_meanwhile_is_no_damage(whole: Record, store: Store, how: str) -> None:
    findings = verify(whole, Holders())
    assert next(findings).what == "record"
    memory(whole).unlink()
    match how:
        case "deleted":
            Path(whole.folder, "record.json").unlink()
        case "being deleted":
            store.write(replace(whole, state="deleting"))
        case _:
            store.write(replace(whole, memory=""))
    (rest,) = findings
    assert (rest.what, rest.outcome) == ("record", "unchecked")


def test_what_cannot_be_read_in_a_store_is_a_finding_too(store: Store) -> None:
    for name in ("altered", "lost", "newer", "unfinished"):
        store.put(name)
    path = store.folder("newer") / "record.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    (store.folder("altered") / "record.json").write_text("{")
    (store.folder("lost") / "record.json").unlink()
    (store.folder("unfinished") / "record.json").unlink()
    (store.folder("unfinished") / "memory").rename(store.folder("unfinished") / "memory.part")
    (store.path / "web01" / "current").symlink_to("one")
    made = [each for problem in shelves(str(store.path))[0].problems if (each := finding(problem))]
    assert [(each.snapshot, each.what, each.outcome) for each in made] == [
        ("", "current", "altered"),
        ("altered", "record", "altered"),
        ("lost", "record", "lost"),
        ("newer", "record", "unchecked"),
    ]
    assert all(each.path in each.detail for each in made)
