"""A store's snapshots make a tree; what lies there and is no snapshot is said, and spoils nothing else."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from executor.store import Problem, Shelf, reread, shelves, tree
from planner.facts import Record
from schema.diagnostic import Refused
from tests.executor.kept import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def shelf(store: Store) -> Shelf:
    (found,) = shelves(str(store.path))
    return found


def problem(store: Store) -> Problem:
    """Return the only problem, and hold that a snapshot beside it is read all the same."""
    found = shelf(store)
    assert [record.snapshot for record in found.records] == ["good"]
    (only,) = found.problems
    return only


def said(problem: Problem) -> str:
    first = problem.diagnostics[0]
    assert first.position
    return f"{first.position}: {first.summary}: {first.detail}"


def test_snapshots_are_read_by_domain_and_age_with_the_one_that_the_domain_is_on(store: Store) -> None:
    store.put("second", taken="2026-11-02T00:00:00Z", parent="first")
    store.put("first", taken="2026-11-01T00:00:00Z")
    store.put("other", domain="db")
    store.current("second")
    db, web01 = shelves(str(store.path))
    assert (db.domain, [record.snapshot for record in db.records], db.current) == ("db", ["other"], "")
    assert ([record.snapshot for record in web01.records], web01.current) == (["first", "second"], "second")
    assert web01.record("first") and not web01.record("third")
    assert not db.problems + web01.problems


def test_one_domain_can_be_read_alone(store: Store) -> None:
    store.put("one")
    store.put("one", domain="db")
    assert [each.domain for each in shelves(str(store.path), "db")] == ["db"]
    assert shelves(str(store.path), "../store/db") == ()


def test_a_store_that_is_not_there_holds_nothing(store: Store) -> None:
    assert shelves(str(store.path)) == ()


def test_a_store_behind_a_link_of_the_administrator_is_read(store: Store, tmp_path: Path) -> None:
    record = store.put("one")
    (tmp_path / "link").symlink_to(store.path)
    assert shelves(str(tmp_path / "link"))[0].records == (record,)


def test_a_store_that_was_moved_is_read_where_it_lies(store: Store, tmp_path: Path) -> None:
    store.put("one")
    store.path.rename(tmp_path / "moved")
    assert shelves(str(tmp_path / "moved"))[0].records[0].folder == f"{tmp_path}/moved/web01/one"


def test_a_store_that_is_a_file_is_refused(store: Store) -> None:
    store.path.write_text("")
    with pytest.raises(Refused, match="cannot read the store"):
        shelves(str(store.path))


def test_what_is_no_folder_has_nothing_to_do_with_snapshots(store: Store) -> None:
    store.put("good")
    (store.path / "README").write_text("")
    (store.path / "lost+found" / "#12").mkdir(parents=True)
    (store.path / "web01" / "notes").write_text("")
    (store.path / "web01" / "applied").mkdir()
    (store.path / "web01" / "link-to-a-file").symlink_to("notes")
    os.mkfifo(store.path / "pipe")
    os.mkfifo(store.path / "web01" / "pipe")
    empty, web01 = shelves(str(store.path))
    assert empty == Shelf("lost+found")
    assert len(web01.records) == 1 and not web01.problems


# --- records that are none, each beside one that is


def break_it(store: Store) -> Path:
    store.put("good")
    store.put("bad")
    return store.folder("bad") / "record.json"


@pytest.mark.parametrize("end", [0, 1, 50, 400, -2])
def test_a_record_that_was_cut_off_is_unreadable(store: Store, end: int) -> None:
    path = break_it(store)
    path.write_bytes(path.read_bytes()[:end])
    found = problem(store)
    assert (found.snapshot, found.state, found.path) == ("bad", "unreadable", str(path))
    assert "not valid JSON" in said(found)


@pytest.mark.parametrize("garbage", [b"\xff\xfe\0", b"[]", b"null", b'{"version": 1}', b"{" * 100_000, b'{"a": 1e999}'])
def test_garbage_is_unreadable(store: Store, garbage: bytes) -> None:
    break_it(store).write_bytes(garbage)
    assert problem(store).state == "unreadable"


def test_a_newer_record_is_told_from_a_broken_one(store: Store) -> None:
    path = break_it(store)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2, "new": True}))
    found = problem(store)
    assert found.state == "newer"
    assert "this is version 2; this domsnap reads up to 1" in said(found)


def test_a_record_in_the_folder_of_another_is_not_taken_for_that_other(store: Store) -> None:
    path = break_it(store)
    path.write_text((store.folder("good") / "record.json").read_text())
    assert "it is the record of web01/good" in said(problem(store))


def test_a_record_of_another_domain_is_not_taken_for_this_ones(store: Store) -> None:
    store.put("good")
    store.path.joinpath("web02").mkdir()
    store.folder("good").rename(store.path / "web02" / "good")
    store.put("good")
    other = shelves(str(store.path), "web02")[0].problems[0]
    assert "it is the record of web01/good" in said(other)


def test_a_record_that_is_too_large_is_not_read(store: Store) -> None:
    path = break_it(store)
    with path.open("ab") as file:
        file.truncate(2**20 + 1)
    assert "it has more than 1048576 bytes" in said(problem(store))


def test_a_symbolic_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    path = break_it(store)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "a symbolic link is in its place" in said(problem(store))


def test_a_pipe_is_not_waited_at(store: Store) -> None:
    path = break_it(store)
    path.unlink()
    os.mkfifo(path)
    assert "a named pipe is in its place" in said(problem(store))


def test_neither_a_socket_nor_a_folder_is_a_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = break_it(store)
    path.unlink()
    monkeypatch.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("record.json")
    assert "a socket is in its place" in said(problem(store))
    path.unlink()
    path.mkdir()
    assert "a folder is in its place" in said(problem(store))


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_snapshot_that_is_a_link_is_not_followed(store: Store, tmp_path: Path, target: str) -> None:
    break_it(store)
    store.folder("bad").rename(tmp_path / "elsewhere")
    store.folder("bad").symlink_to(tmp_path / target)
    found = problem(store)
    assert (found.snapshot, found.state) == ("bad", "unreadable")
    assert "a symbolic link is in its place" in said(found)


def test_a_domain_that_is_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    store.put("one")
    (store.path / "web01").rename(tmp_path / "elsewhere")
    (store.path / "web01").symlink_to(tmp_path / "elsewhere")
    found = shelf(store)
    assert not found.records
    assert (found.problems[0].snapshot, found.problems[0].path) == ("", str(store.path / "web01"))


@pytest.mark.parametrize(
    "names,state,holds",
    [
        ([], "unfinished", "nothing"),
        (["memory.part"], "unfinished", "memory.part"),
        (["xvda.raw"], "unfinished", "xvda.raw"),
        (["memory", "memory.sha256", "record.json.part"], "lost", "memory, memory.sha256, record.json.part"),
        ([f"f{n}" for n in range(9)], "unfinished", "f0, f1, f2, f3, ...:"),
    ],
)
def test_a_folder_without_a_record_is_no_snapshot(store: Store, names: list[str], state: str, holds: str) -> None:
    path = break_it(store).parent
    for each in path.iterdir():
        each.unlink()
    for name in names:
        (path / name).write_text("")
    found = problem(store)
    assert (found.snapshot, found.state, found.path) == ("bad", state, str(path))
    assert f"it holds {holds}" in said(found)


def test_a_record_that_is_being_rewritten_counts(store: Store) -> None:
    record = store.put("good")
    Path(record.folder, "record.json.part").write_text("{")
    assert shelf(store) == Shelf("web01", (record,))


@pytest.mark.parametrize("how", ["link", "pipe", "large"])
def test_a_mark_of_the_current_snapshot_that_is_none_is_said(store: Store, how: str) -> None:
    store.put("good")
    path = store.path / "web01" / "current"
    if how == "link":
        path.symlink_to("good/record.json")
    elif how == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"good\n" * 1000)
    found = problem(store)
    assert (found.snapshot, found.path, shelf(store).current) == ("", str(path), "")


def test_names_are_data(store: Store) -> None:
    store.put("good")
    for name in ("-rf", "a b", "x\n", "\x1b[2J", "$(reboot)", os.fsdecode(b"\xff")):
        (store.path / "web01" / name).mkdir()
        (store.path / "web01" / name / "record.json").write_text("{}")
    assert {each.snapshot for each in shelf(store).problems} >= {"-rf", "$(reboot)", "\udcff"}


def test_a_record_is_read_again_as_it_is_now(store: Store) -> None:
    record = store.put("good")
    assert reread(record) == record
    store.write(replace(record, state="deleting"))
    again = reread(record)
    assert again and again.state == "deleting"
    Path(record.folder, "record.json").unlink()
    assert reread(record) is None


# --- the tree


def line(*snapshots: str) -> list[Record]:
    """Return records written as "name<parent", each taken after the one before."""
    made = []
    for day, (name, _, parent) in enumerate((each.partition("<") for each in snapshots), 1):
        taken = f"2026-11-{day:02}T00:00:00Z"
        made.append(Record("web01", "", "pvh", name, "", (), taken, parent=parent))
    return made


def drawn(records: list[Record], current: str = "") -> list[str]:
    marks = {"tree": "*", "branch": "/", "": "|"}
    twigs = list(tree(records, current))
    columns = [(twig.column, twig.begins) for twig in twigs]
    for number, twig in enumerate(twigs):  # the line ends here if nothing goes on in its column before it is left
        below = next((each for each in columns[number + 1 :] if each[0] <= twig.column), (0, "tree"))
        assert twig.ends == (below != (twig.column, ""))
    return [f"{twig.column}{marks[twig.begins]}{twig.record.snapshot}" for twig in twigs]


def test_a_line_of_descent_is_drawn_straight_on() -> None:
    assert drawn(line("a", "b<a", "c<b")) == ["0*a", "0|b", "0|c"]


def test_the_line_goes_on_to_the_newest_and_older_ones_begin_beside_it() -> None:
    assert drawn(line("a", "b<a", "b2<b", "c<a", "d<a")) == ["0*a", "1/b", "1|b2", "1/c", "0|d"]


def test_the_line_goes_on_to_the_snapshot_that_the_domain_is_on() -> None:
    assert drawn(line("a", "b<a", "b2<b", "c<a"), "b2") == ["0*a", "1/c", "0|b", "0|b2"]


def test_a_snapshot_whose_parent_is_gone_begins_a_tree() -> None:
    assert drawn(line("b<a", "c", "d<b")) == ["0*b", "0|d", "0*c"]


def test_the_order_in_which_they_are_found_does_not_matter() -> None:
    made = line("a", "b<a", "c<a", "d<b", "e<gone")
    assert {tuple(drawn(list(order))) for order in permutations(made)} == {tuple(drawn(made))}


@pytest.mark.parametrize("current", ["", "a", "c", "nowhere"])
def test_snapshots_that_descend_from_themselves_are_shown_once_each(current: str) -> None:
    names = [each[2:] for each in drawn(line("a<c", "b<a", "c<b", "d<d", "e<d", "f"), current)]
    assert sorted(names) == ["a", "b", "c", "d", "e", "f"]


def test_a_line_of_thousands_is_no_trouble() -> None:
    made = [Record("web01", "", "pvh", f"s{n}", "", (), f"{n:06}", parent=f"s{n - 1}") for n in range(5000)]
    assert [twig.record for twig in tree(made, "s4999")] == made
