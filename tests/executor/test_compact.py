"""A compacted image takes the place of the one that came in one go, or not at all, wherever it is cut off."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from executor import compact
from executor.holders import Holders
from executor.live import Live
from executor.perform import AfterEnd, Performer
from executor.programs import Watch
from executor.signals import Signals
from executor.store import shelves
from executor.verify import verify
from planner.commands import Command, Compact
from planner.facts import Record
from planner.operations.store import CompactMemory, RemoveSnapshotFiles
from tests.conftest import Survived
from tests.executor.kept import Store
from tests.executor.streams import Other, Page, image, restored

STREAM = image(
    [tuple(Page(n, n) for n in range(300)), *[tuple(Page(n, 7) for n in range(200))] * 2, Other(9, b"x" * 99)]
)


class Told(Watch):
    """All that was said of it, but for what passes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def told(self, text: str, *, passing: bool = False) -> None:
        if not passing:
            self.said.append(text)


class Snapshot:
    """A published snapshot whose memory image is `data`, and the command that compacts it."""

    def __init__(self, root: Path, data: bytes = STREAM) -> None:
        self.store = Store(root)
        self.published = self.store.put("one", capture="live")
        self.image = Path(self.published.memory)
        self.target = Path(f"{self.image}.compact")
        self.image.write_bytes(data)
        self.note(data)
        (command,) = CompactMemory(self.published).do()
        assert isinstance(command, Compact)
        self.command, self.signals, self.watch = command, Signals(), Told()

    def note(self, data: bytes) -> None:
        Path(f"{self.image}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {self.image}\n")

    def do(self, *, command: Command | None = None, kind: type[Performer] = Performer, again: bool = False) -> None:
        with closing(kind(self.signals, Live(self.published.uuid, self.watch), self.watch)) as performer:
            (performer.do_again if again else performer.do)(command or self.command)

    @property
    def record(self) -> Record:
        (shelf,) = shelves(str(self.store.path))
        assert not shelf.problems
        (record,) = shelf.records
        return record

    def files(self) -> set[str]:
        return set(os.listdir(self.published.folder))

    def whole(self) -> bool:
        """Hold that what the record names is whole by its digest, for `revert` too; return whether it is compacted."""
        record = self.record
        assert {each.outcome for each in verify(record, Holders())} == {"fine"}
        argv = ["sha256sum", "--check", "--status", "--strict", "--", f"{record.memory}.sha256"]
        assert subprocess.run(argv, check=False).returncode == 0
        assert restored(Path(record.memory).read_bytes()) == restored(STREAM)
        assert record == replace(self.published, memory=record.memory, compacted=record.compacted)
        return record.compacted

    def stays(self, words: str) -> None:
        """Hold that it stays as it came, for this reason, and that nothing is left."""
        assert len(self.watch.said) == 1 and "stays as it came" in self.watch.said[0], self.watch.said
        assert words in self.watch.said[0], self.watch.said
        assert self.record == self.published
        assert self.files() == {"memory", "memory.sha256", "record.json"}


COMPACTED = {"memory.compact", "memory.compact.sha256", "record.json"}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return Snapshot(tmp_path)


def test_it_takes_the_place_of_what_came(snapshot: Snapshot) -> None:
    snapshot.do()
    assert snapshot.whole() and snapshot.files() == COMPACTED
    assert snapshot.target.stat().st_size < len(STREAM) * 300 / 650
    assert snapshot.target.stat().st_mode & 0o777 == 0o600
    assert snapshot.watch.said == ["memory: 2 MiB as it came, 1 MiB with the last copy of each page alone"]


def test_once_it_is_done_it_is_done(snapshot: Snapshot) -> None:
    snapshot.do()
    before = snapshot.target.stat()
    snapshot.do(again=True)
    snapshot.do(kind=AfterEnd)
    assert snapshot.whole() and snapshot.files() == COMPACTED and snapshot.target.stat() == before


def test_what_a_deletion_removes_is_all_of_it(snapshot: Snapshot) -> None:
    for compacted in (False, True):
        record = snapshot.record
        for name in ("memory", "memory.part", "memory.sha256", "memory.compact", "memory.compact.sha256"):
            (Path(record.folder) / name).touch()
        for command in RemoveSnapshotFiles(replace(record, compacted=compacted)).do():
            snapshot.do(command=command)
        assert not Path(record.folder).exists()
        snapshot = Snapshot(snapshot.store.root / "again")
        snapshot.do()


@pytest.mark.parametrize("data,words", [
    (image([tuple(Page(n) for n in range(99)), (Page(1),)]), "of 0 MiB 0 would be saved"),
    (image([(Page(1),), (Page(1),), Other(0xD)]), "type 0xd"),
    (STREAM[:-8], "ends inside"),
    (b"", "begin like"),
], ids=["hardly smaller", "not understood", "cut", "empty"])  # fmt: skip
def test_what_is_not_to_be_compacted_stays_as_it_came(tmp_path: Path, data: bytes, words: str) -> None:
    snapshot = Snapshot(tmp_path, data)
    snapshot.do()
    snapshot.stays(words)


def test_an_image_with_a_flipped_bit_stays_and_stays_altered(snapshot: Snapshot) -> None:
    with snapshot.image.open("r+b") as file:
        file.seek(len(STREAM) // 2)
        file.write(b"!")
    snapshot.do()
    snapshot.stays("not what was written")
    assert {each.outcome for each in verify(snapshot.record, Holders()) if each.what == "memory"} == {"altered"}


def test_without_its_digest_it_stays(snapshot: Snapshot) -> None:
    Path(f"{snapshot.image}.sha256").write_text("")
    snapshot.do()
    snapshot.stays("does not hold one SHA-256")


def test_where_there_is_no_room_it_stays(snapshot: Snapshot) -> None:
    there = os.statvfs(snapshot.published.folder)
    with patch.object(os, "statvfs", lambda _: type(there)([there.f_frsize] * 2 + [0] * 8)):
        snapshot.do()
    snapshot.stays("no room for 1 MiB beside it")


def test_a_signal_ends_it_and_it_stays(snapshot: Snapshot) -> None:
    snapshot.signals.note(15)
    snapshot.do()
    snapshot.stays("interrupted by signal 15")


def test_what_lies_in_its_place_is_left_alone(snapshot: Snapshot) -> None:
    snapshot.target.write_text("precious")
    snapshot.do()
    assert "File exists" in snapshot.watch.said[0]
    assert snapshot.target.read_text() == "precious" and not snapshot.whole()


@pytest.mark.parametrize("how", ["deleted", "being deleted", "moved on", "unreadable", "a link"])
def test_a_record_that_is_another_one_by_now_is_left_alone(snapshot: Snapshot, how: str) -> None:
    path = Path(snapshot.command.record)
    match how:
        case "deleted":
            path.unlink()
        case "being deleted":
            snapshot.store.write(replace(snapshot.published, state="deleting"))
        case "moved on":
            snapshot.store.write(replace(snapshot.published, memory="/elsewhere"))
        case "unreadable":
            path.write_text("{")
        case "a link":
            path.rename(path.with_suffix(".other"))
            path.symlink_to(path.with_suffix(".other"))
    snapshot.target.touch()
    before = snapshot.files()
    snapshot.do()
    snapshot.do(again=True)
    snapshot.do(kind=AfterEnd)
    assert snapshot.files() == before and snapshot.image.read_bytes() == STREAM


# --- cut off, or failing, at every call of the system that changes anything

CALLS = ("open", "write", "fsync", "rename", "unlink", "close")


class Counter:
    """Has a call of the system do something else at the `last` time."""

    def __init__(self, last: int, act: Callable[[str], None]) -> None:
        self.last, self.act, self.count = last, act, 0

    def of(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*words: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.last:
                self.act(name)
            return real(*words, **named)

        return call


def until(snapshot: Snapshot, last: int, act: Callable[[str], None]) -> bool:
    """Compact, and act just before the call of this number; return whether it came to that."""
    counter = Counter(last, act)
    patches = [patch.object(os, name, counter.of(name)) for name in CALLS]
    for each in patches:
        each.start()
    try:
        compact.compact(snapshot.command, snapshot.signals, snapshot.watch)
    finally:
        for each in patches:
            each.stop()
    return counter.count >= last


def killed(snapshot: Snapshot, last: int) -> bool:
    """Have another process compact, and end without a word before the call of this number."""
    child = os.fork()
    if child == 0:
        try:
            until(snapshot, last, lambda _: os._exit(9))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def instants(root: Path) -> Iterator[tuple[int, Snapshot]]:
    for last in range(1, 100):
        yield last, Snapshot(root / str(last))
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("then", ["resumed", "machine rebooted"])
def test_killed_at_any_instant_the_snapshot_is_whole_and_nothing_is_left_in_the_end(
    tmp_path: Path, then: str, survived: Survived
) -> None:
    seen = set()
    for last, snapshot in instants(tmp_path):
        if not killed(snapshot, last):
            break
        seen.add((snapshot.whole(), len(snapshot.files())))
        if then == "resumed":
            snapshot.do(again=True)
            assert snapshot.whole() and snapshot.files() == COMPACTED
        else:
            compacted = snapshot.whole()
            snapshot.do(kind=AfterEnd, again=True)
            assert snapshot.whole() == compacted
            assert snapshot.files() == (COMPACTED if compacted else {"memory", "memory.sha256", "record.json"})
    assert last > 12
    # Alone, with its copy, with a digest of that, with the next record; then the other way round.
    assert seen == {(False, 3), (False, 4), (False, 5), (False, 6), (True, 5), (True, 4)}, seen
    survived(
        f"compaction killed at each call; then {then}", last - 1, "the record names a whole image; nothing is left"
    )


@pytest.mark.parametrize("number", [28, 5], ids=["ENOSPC", "EIO"])
def test_whatever_call_fails_the_snapshot_is_whole(tmp_path: Path, number: int, survived: Survived) -> None:
    def fail(name: str) -> None:
        if name != "close":  # a file that was synced cannot fail to close
            raise OSError(number, os.strerror(number))

    for last, snapshot in instants(tmp_path):
        if not until(snapshot, last, fail):
            break
        if not snapshot.whole():
            snapshot.stays("")
    assert last > 12
    survived(f"compaction: each call fails ({os.strerror(number)})", last - 1, "the record names a whole image")


def test_each_file_is_durable_before_anything_rests_on_it(snapshot: Snapshot) -> None:
    done: list[str] = []
    fsync, rename, unlink = os.fsync, os.rename, os.unlink

    def name(path: Any) -> str:
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else str(path)
        return "folder" if path == snapshot.published.folder else Path(path).name

    def noted(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any) -> None:
            done.append(f"{what} {name(path)}")
            real(path, *more)

        return call

    with (
        patch.object(os, "fsync", noted("sync", fsync)),
        patch.object(os, "rename", noted("rename", rename)),
        patch.object(os, "unlink", noted("remove", unlink)),
    ):
        compact.compact(snapshot.command, snapshot.signals, snapshot.watch)
    assert done == [
        "sync memory.compact", "sync memory.compact.sha256", "sync folder", "sync record.json.part",
        "rename record.json.part", "sync folder", "sync folder", "remove memory.sha256", "remove memory",
    ]  # fmt: skip
