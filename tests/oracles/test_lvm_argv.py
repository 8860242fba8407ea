"""Every call of LVM was seen to work in a dom0, and passes lvm2's own parser here, where device-mapper is missing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from planner.operations.lvm import MISSING, ours, snapshot_argv
from tests.oracles.emitted import programs
from tests.oracles.shapes import shape
from tests.oracles.transcript import Ran, transcript

PROGRAMS = {"lvs", "vgs", "lvcreate", "lvremove", "lvrename", "lvconvert", "lvextend", "lvchange"}
GROUP = "domsnaptest"
# lvm2 exits 3 when it cannot parse, 5 when it cannot do it.
NO_KERNEL = "Can't create snapshot without using device-mapper kernel driver."
DB = f"{GROUP}/db"
TAG = "domsnap.web01.s1"
# What is run here, and what it says where no kernel can help: "" if it works.
TRIED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("lvchange", "--addtag", "t", "--", DB), ""),
    (("lvchange", "--deltag", "t", "--", DB), ""),
    (("lvconvert", "--yes", "--merge", "--", DB), "cannot be merged because --trackchanges was not used"),
    (snapshot_argv(GROUP, "db", "db-s1", 0, ""), "with snapshots."),  # it is thick: a size is missing
    (snapshot_argv(GROUP, "db", "db-s1", 0, TAG), "with snapshots."),
    (snapshot_argv(GROUP, "db", "db-s1", 4194304, TAG), NO_KERNEL),
    (("lvextend", "--size", "12582912b", "--", DB), ""),
    (("lvremove", "--yes", "--", DB), ""),
    (("lvremove", "--yes", "--select", ours("db", TAG), "--", GROUP), ""),
    (("lvrename", "--", GROUP, "db", "db-pre-revert-1"), ""),
    (("lvs", "--", DB), ""),
    (("lvs", "--noheadings", "-o", "lv_device_open", "--", DB), ""),
    (("lvs", "--noheadings", "-o", "lv_uuid", "--", DB), ""),
    (("vgs", "--noheadings", "--units", "b", "--nosuffix", "-o", "vg_free", "--", GROUP), ""),
)


def calls() -> dict[str, str]:
    return {shape(argv): where for where, argv in programs() if argv[0] in PROGRAMS}


def ran(*argv: str) -> list[Ran]:
    return [each for each in transcript() if each.argv == argv]


def test_every_shape_is_tried_here_and_none_that_nothing_emits() -> None:
    tried = {shape(argv) for argv, _ in TRIED}
    assert calls().keys() - tried == set(), "add these to TRIED, and run them in a dom0"
    assert tried - calls().keys() == set()


def test_every_shape_was_seen_to_work_in_a_dom0() -> None:
    worked = {shape(each.argv) for each in transcript() if each.argv[0] in PROGRAMS and each.status == 0}
    never = {known: where for known, where in calls().items() if known not in worked}
    assert not never, f"run these in a dom0 and keep what they print in tests/recorded/: {never}"


def test_every_size_that_a_plan_gives_is_a_multiple_of_512() -> None:
    for where, argv in programs():
        for option, size in pairwise(argv):
            if option == "--size":
                assert size.endswith("b") and int(size[:-1]) % 512 == 0, where


@pytest.fixture(scope="module")
def lvm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An LVM of our own on a loop device: metadata only, and blind to the host's devices."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a loop device")
    where = tmp_path_factory.mktemp("lvm")
    with (where / "disk").open("wb") as disk:
        disk.truncate(128 * 2**20)
    run = subprocess.run(["losetup", "-f", "--show", where / "disk"], check=True, capture_output=True, text=True)
    device = run.stdout.strip()
    (where / "lvm.conf").write_text(
        f'global {{ activation = 0 locking_dir = "{where}" use_lvmpolld = 0 }}\n'
        f'devices {{ filter = [ "a|^{device}$|", "r|.*|" ] use_devicesfile = 0 }}\n'
        "backup { backup = 0 archive = 0 }\n"
    )
    environment = {**os.environ, "LVM_SYSTEM_DIR": str(where), "LVM_SUPPRESS_FD_WARNINGS": "1", "LC_ALL": "C"}
    try:
        for argv in (["pvcreate", device], ["vgcreate", GROUP, device]):
            subprocess.run(argv, check=True, capture_output=True, env=environment)
        yield environment
    finally:
        subprocess.run(["vgremove", "-f", "-q", GROUP], check=False, capture_output=True, env=environment)
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.fixture
def volume(lvm: dict[str, str]) -> Iterator[dict[str, str]]:
    """The same, with a volume of 8 MiB called db that has a tag."""
    argv = ["lvcreate", "-y", "-an", "-Zn", "-Wn", "-n", "db", "-L", "8M", "--addtag", "domsnap.web01.s1", GROUP]
    subprocess.run(argv, check=True, capture_output=True, env=lvm)
    yield lvm
    subprocess.run(["lvremove", "-f", "-q", GROUP], check=True, capture_output=True, env=lvm)


def call(argv: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=30
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("argv,words", TRIED, ids=lambda value: value[0] if isinstance(value, tuple) else "")
def test_lvm2_takes_these_options_here(argv: tuple[str, ...], words: str, volume: dict[str, str]) -> None:
    status, said = call(argv, volume)
    assert status == (5 if words else 0), said
    assert words in said


@pytest.mark.parametrize(
    "argv",
    [
        ["lvcreate", "--snapshot", "--yes", "--name", "s", "--size", "5000000b", "--", f"{GROUP}/db"],
        ["lvcreate", "--snapshot", "--yes", "--name", "a@b", "--size", "4194304b", "--", f"{GROUP}/db"],
        ["lvcreate", "--snapshot", "--yes", "--nmae", "s", "--size", "4194304b", "--", f"{GROUP}/db"],
        ["lvremove", "--yess", "--", f"{GROUP}/db"],
    ],
)
def test_what_lvm2_cannot_parse_exits_3(argv: list[str], volume: dict[str, str]) -> None:
    assert call(argv, volume)[0] == 3


def test_a_volume_is_removed_by_name_and_tag_together_only(volume: dict[str, str]) -> None:
    def remove(name: str, tag: str) -> None:
        assert call(["lvremove", "--yes", "--select", ours(name, tag), "--", GROUP], volume)[0] == 0

    there = ["lvs", "--", f"{GROUP}/db"]
    remove("db", "another")
    remove("dbx", "domsnap.web01.s1")
    assert call(there, volume)[0] == 0
    remove("db", "domsnap.web01.s1")
    assert call(there, volume)[0] == MISSING


def test_a_missing_volume_exits_as_the_operations_expect_here_and_in_a_dom0(volume: dict[str, str]) -> None:
    assert call(["lvs", "--", f"{GROUP}/missing"], volume)[0] == MISSING
    assert [each.status for each in ran("lvs", "--", "vg0/missing")] == [MISSING]


def test_a_snapshot_keeps_its_content_and_grows_while_another_is_merged() -> None:
    """Seen in a dom0: db-present stays valid, db-small, too small for what the merge overwrites, does not."""
    text = Path(__file__).parents[1].joinpath("recorded", "dom0-2026-11.txt").read_text()
    before, _, after = text.partition("$ lvconvert --yes --merge -- vg0/db-s1")

    def last(part: str, name: str) -> list[str]:
        return [line for line in part.splitlines() if line.startswith(f"#   {name} ")][-1].split()

    def content(part: str, name: str) -> str:
        return next(line for line in part.splitlines() if line.startswith(f"# content of {name}:"))

    merged, _, back = after.partition("$ lvconvert --yes --merge -- vg0/db-present")
    assert float(last(merged, "db-present")[5]) > float(last(before, "db-present")[5]) > 0
    assert last(merged, "db-present")[2] == "swi-a-s---"
    assert last(merged, "db-small")[2] == "swi-I-s---"
    was = before.rpartition("# content of db:")[2]
    assert content("# content of db:" + was, "db-s1")[-12:] == content(merged, "db")[-12:]
    assert content(merged, "db-present") == content("# content of db:" + was, "db-present")
    assert content(back, "db")[-12:] == content(merged, "db-present")[-12:]


def test_a_merge_of_an_open_origin_exits_0_and_the_snapshot_stays() -> None:
    merges = ran("lvconvert", "--yes", "--merge", "--", "vg0/db-s1")
    assert [each.status for each in merges] == [0, 0]
    assert "will occur on next activation" in merges[1].printed
    assert [each.status for each in ran("lvs", "--", "vg0/db-s1")] == [MISSING, 0, MISSING]


def test_extending_to_the_size_that_is_there_fails() -> None:
    assert [each.status for each in ran("lvextend", "--size", "20971520b", "--", "vg0/db-odd")] == [0, 5]


def test_the_snapshot_argv_is_the_one_that_was_run_in_a_dom0() -> None:
    thick = snapshot_argv("vg0", "db", "db-s1", 12582912, "domsnap.web01.s1")
    thin = snapshot_argv("vg0", "cache", "cache-s1", 0, "domsnap.web01.s1")
    assert [each.status for each in ran(*thick)][:1] == [0]
    assert [each.status for each in ran(*thin)][:1] == [0]
