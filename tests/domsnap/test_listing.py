"""`list`, `show` and `verify`: what the command line says of a store that was made for real."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from domsnap.door import run
from tests.executor.kept import Store

Said = tuple[int, str, str]
Domsnap = Callable[..., Said]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Make four snapshots: two after one, three after two, and four, from which the domain goes on, after one."""
    store = Store(tmp_path)
    store.put("one", [store.internal("one"), store.copy("one")], description="before\x1b[31m all")
    store.put("two", [store.internal("two")], parent="one", taken="2026-11-23T07:35:00Z")
    store.put("three", [store.external("three")], parent="two", taken="2026-11-23T07:36:00Z")
    store.put("four", [store.internal("four")], parent="one", taken="2026-11-23T07:37:00Z")
    store.current("four")
    return store


@pytest.fixture
def domsnap(capsys: pytest.CaptureFixture[str], store: Store, monkeypatch: pytest.MonkeyPatch) -> Domsnap:
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words: str) -> Said:
        return (run([*words, "--store", str(store.path)]), *capsys.readouterr())

    return call


def test_list_draws_the_tree_with_the_line_to_the_present_straight_on(domsnap: Domsnap) -> None:
    assert domsnap("list") == (0, (
        "web01\n"
        "o one      2026-11-23 07:34      1 GiB  internal xvda; copy xvdc\n"
        "├─o two    2026-11-23 07:35      1 GiB  internal xvda\n"
        "│ o three  2026-11-23 07:36      1 GiB  external xvdb\n"
        "* four     2026-11-23 07:37      1 GiB  internal xvda\n"
        "* the domain goes on from this one\n"
    ), "")  # fmt: skip


def test_list_says_what_cannot_be_read_and_what_is_being_deleted(domsnap: Domsnap, store: Store) -> None:
    store.write(replace(store.put("five"), state="deleting"))
    store.folder("two").joinpath("record.json").write_text("{")
    status, out, _ = domsnap("list", "web01")
    assert status == 0
    assert "being deleted; finish that with --delete" in out
    assert "! two: not valid JSON" in out


def test_list_of_an_empty_store_says_so(domsnap: Domsnap, store: Store) -> None:
    shutil.rmtree(store.path)
    assert domsnap("list") == (0, f"no snapshots in {store.path}\n", "")
    assert domsnap("verify") == (0, f"no snapshots in {store.path}\n", "")


def test_list_is_json_too(domsnap: Domsnap, store: Store) -> None:
    (store.path / "web01/half").mkdir()
    status, out, err = domsnap("list", "--json")
    said = json.loads(out)
    (shelf,) = said["domains"]
    assert (status, err, said["version"], shelf["current"]) == (0, "", 1, "four")
    assert [each["snapshot"] for each in shelf["snapshots"]] == ["one", "two", "three", "four"]
    assert shelf["snapshots"][0]["memory_allocated"] == os.stat(shelf["snapshots"][0]["memory"]).st_blocks * 512
    assert [(each["snapshot"], each["state"]) for each in shelf["problems"]] == [("half", "unfinished")]


def test_show_says_where_all_of_a_snapshot_is_in_letters_that_no_terminal_obeys(domsnap: Domsnap, store: Store) -> None:
    status, out, err = domsnap("show", "web01", "one")
    assert (status, err) == (0, "")
    assert "\x1b" not in out and "before\\x1b[31m all" in out
    flat = " ".join(out.split())
    for part in ("parent none; children: two, four", "xvda internal: ", ", as one", "xvdc copy: ", "1 GiB of RAM ("):
        assert part in flat
    assert "and the domain goes on from it" in domsnap("show", "web01", "four")[1]
    assert json.loads(domsnap("show", "web01", "one", "--json")[1])["snapshot"]["folder"] == str(store.folder("one"))


@pytest.mark.parametrize(
    "words,said",
    [
        (("show", "web01", "onne"), "did you mean 'one'?"),
        (("show", "web1", "one"), "did you mean 'web01'?"),
        (("list", "mail"), "it has some of web01"),
        (("verify", "web01", "five"), "it has one, two, three, four"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_that_are(
    domsnap: Domsnap, words: tuple[str, ...], said: str
) -> None:
    status, out, err = domsnap(*words)
    assert (status, out) == (1, "")
    assert said in err


def test_show_of_a_broken_record_says_what_is_wrong_with_it(domsnap: Domsnap, store: Store) -> None:
    store.folder("two").joinpath("record.json").write_text("{")
    assert "not valid JSON" in domsnap("show", "web01", "two")[2]


def test_verify_says_of_each_thing_what_was_found(domsnap: Domsnap) -> None:
    status, out, err = domsnap("verify", "web01", "one")
    assert (status, err) == (0, "")
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["web01/one", "record", "fine"], ["web01/one", "memory", "fine"], ["web01/one", "xvda", "fine"],
        ["web01/one", "xvdc", "fine"], ["4", "fine"],
    ]  # fmt: skip


def test_verify_ends_with_6_if_something_is_lost_or_altered(domsnap: Domsnap, store: Store) -> None:
    memory = store.folder("one") / "memory"
    data = bytearray(memory.read_bytes())
    data[-40] ^= 1
    memory.write_bytes(data)
    store.folder("three").joinpath("memory").unlink()
    status, out, _ = domsnap("verify")
    assert status == 6
    assert out.splitlines()[-1] == "11 fine, 1 lost, 1 altered"
    said = json.loads(domsnap("verify", "--json")[1])
    assert {each["outcome"] for each in said["findings"]} == {"fine", "lost", "altered"}
