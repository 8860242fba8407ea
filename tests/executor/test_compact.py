"""A smaller image takes the place of the one that came in one go, or not at all, wherever it is cut off."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from planner.commands import Command, Compact, Run
from planner.facts import Record
from planner.operations.domain import decompress
from planner.operations.store import CompactMemory, RemoveSnapshotFiles, VerifyMemory
from tests.conftest import Survived
from tests.executor.kept import Store
from tests.executor.streams import HEAD, TAIL, Other, Page, image, restored
from tests.executor.test_stream import record

NOISE = HEAD + record(1, struct.pack("<II64Q", 64, 0, *range(64)) + random.Random(1).randbytes(64 * 4096)) + TAIL
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


# By name: what the file is called, and whether only the last copies of pages are kept.
KINDS = {"compacted": ("compact", True), "compressed": ("zst", False), "both": ("zst", True)}
every = pytest.mark.parametrize("kind", KINDS)


class Snapshot:
    """A published snapshot whose memory image is `data`, and the command that makes it smaller."""

    def __init__(self, root: Path, data: bytes = STREAM, kind: str = "compacted") -> None:
        self.store, self.kind = Store(root), kind
        shrink, pages = KINDS[kind]
        self.published = self.store.put("one", capture="live" if pages else "paused", shrink=shrink)
        self.image = Path(self.published.memory)
        self.target = Path(f"{self.image}.{shrink}")
        self.made = {self.target.name, f"{self.target.name}.sha256", "record.json"}
        self.image.write_bytes(data)
        self.note(data)
        (command,) = CompactMemory(self.published, pages).do()
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
        """Hold that what the record names is whole, for `revert` too; return whether it is the smaller one."""
        record = self.record
        assert {each.outcome for each in verify(record, Holders())} == {"fine"}
        for command in VerifyMemory(record.memory, record.compressed).checks():
            self.do(command=command)
        data = Path(record.memory).read_bytes()
        if record.compressed:
            data = subprocess.run(decompress(record.memory), check=True, capture_output=True).stdout
        assert restored(data) == restored(STREAM)
        assert data == STREAM or KINDS[self.kind][1]
        assert record == replace(self.published, memory=record.memory, shrunk=record.shrunk)
        return record.shrunk

    def stays(self, words: str) -> None:
        """Hold that it stays as it came, for this reason, and that nothing is left."""
        assert len(self.watch.said) == 1 and "stays as it came" in self.watch.said[0], self.watch.said
        assert words in self.watch.said[0], self.watch.said
        assert self.record == self.published
        assert self.files() == {"memory", "memory.sha256", "record.json"}


@pytest.fixture(params=KINDS)
def snapshot(request: pytest.FixtureRequest, tmp_path: Path) -> Snapshot:
    return Snapshot(tmp_path, kind=request.param)


def test_it_takes_the_place_of_what_came(snapshot: Snapshot) -> None:
    snapshot.do()
    assert snapshot.whole() and snapshot.files() == snapshot.made
    assert snapshot.target.stat().st_size < len(STREAM) * (300 / 650 if snapshot.kind == "compacted" else 1 / 10)
    assert snapshot.target.stat().st_mode & 0o777 == 0o600
    how = {
        "compacted": "1 MiB with the last copy of each page alone",
        "compressed": "0 MiB compressed",
        "both": "0 MiB compressed, with the last copy of each page alone",
    }
    assert snapshot.watch.said == [f"memory: 2 MiB as it came, {how[snapshot.kind]}"]


def test_once_it_is_done_it_is_done(snapshot: Snapshot) -> None:
    snapshot.do()
    before = snapshot.target.stat()
    snapshot.do(again=True)
    snapshot.do(kind=AfterEnd)
    assert snapshot.whole() and snapshot.files() == snapshot.made and snapshot.target.stat() == before


@pytest.mark.parametrize("shrink", ["", "compact", "zst"])
@pytest.mark.parametrize("shrunk", [False, True])
def test_what_a_deletion_removes_is_all_that_is_its_own(tmp_path: Path, shrink: str, shrunk: bool) -> None:
    store = Store(tmp_path)
    beside = tmp_path / "mem"
    record = store.put("one", capture="live", shrink=shrink, shrunk=shrunk and shrink != "")
    record = replace(record, memory=f"{beside}.{shrink}" if record.shrunk else str(beside))
    ends = ("", ".part", ".sha256", ".compact", ".compact.sha256", ".zst", ".zst.sha256")
    for end in ends:
        Path(f"{beside}{end}").touch()
    for path in Path(record.folder).glob("memory*"):
        path.unlink()
    for command in RemoveSnapshotFiles(record).do():
        assert isinstance(command, Run)
        if not command.when or subprocess.run(command.when, check=False).returncode == 0:
            subprocess.run(command.argv, check=True)
    assert not Path(record.folder).exists()
    ours = {"", ".part", ".sha256"} | ({f".{shrink}", f".{shrink}.sha256"} if shrink else set())
    assert {end for end in ends if not Path(f"{beside}{end}").exists()} == ours


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


@pytest.mark.parametrize("data", [NOISE, STREAM[:-8], b""], ids=["hardly smaller", "cut", "empty"])
def test_what_is_not_to_be_compressed_stays_as_it_came(tmp_path: Path, data: bytes) -> None:
    snapshot = Snapshot(tmp_path, data, "compressed")
    snapshot.do()
    snapshot.stays("")


def test_what_cannot_be_compacted_is_compressed_all_the_same(tmp_path: Path) -> None:
    data = image([(Page(1),), (Page(1),), Other(0xD)])
    snapshot = Snapshot(tmp_path, data, "both")
    snapshot.do()
    assert snapshot.files() == snapshot.made
    assert subprocess.run(decompress(str(snapshot.target)), check=True, capture_output=True).stdout == data


# What zstd may do instead, in the place of its name the real one; and what is said of it.
TROUBLE = {
    "fails": ("head -c 9999 | ZSTD -q -c; echo 'no luck' >&2; exit 1", "exit status 1; it said no luck"),
    "is killed": ("head -c 9999 >/dev/null; kill -KILL $$", "ended by signal 9"),
    "reads nothing": ("exit 0", "did not read all"),
    "reads all and writes less": (
        "ZSTD -q -c | head -c 300",
        "exit status 1",
    ),
    "writes nothing": ("cat >/dev/null", "exit status 1|begin like"),
    "writes something else": ("sed 's/qemuqemu/qemuQEMU/' | ZSTD -q -c", "not what it decompresses to"),
    "writes a part": ("head -c 99999 | ZSTD -q -c; cat >/dev/null", "it ends inside"),
    "hardly compresses": ("cat", "of 2 MiB 0 would be saved|exit status 1"),
    "cannot read it back": ("ZSTD -q -c; echo 'exit 3' >>$0", "exit status 3"),
}


def trouble(monkeypatch: pytest.MonkeyPatch, root: Path, lines: str) -> None:
    """Have another zstd compress; it decompresses as ever."""
    fake = root / "bin/zstd"
    fake.parent.mkdir()
    real = shutil.which("zstd")
    act = f'if [ "$1" = -q ]; then\n{lines.replace("ZSTD", str(real))}\nexit\nfi\n'
    fake.write_text(f"#!/bin/sh\n{act}if [ -e '{root}/broken' ]; then exit 3; fi\nexec {real} \"$@\"\n")
    fake.chmod(0o755)
    monkeypatch.setenv("DOMSNAP_PATH", f"{fake.parent}:/usr/bin:/bin")


@pytest.mark.parametrize("kind", ["compressed", "both"])
@pytest.mark.parametrize("how", TROUBLE)
def test_whatever_zstd_does_the_snapshot_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, kind: str, survived: Survived
) -> None:
    lines, words = TROUBLE[how]
    snapshot = Snapshot(tmp_path, kind=kind)
    trouble(monkeypatch, tmp_path, lines.replace("echo 'exit 3' >>$0", f": >'{tmp_path}/broken'"))
    open_files = len(os.listdir("/proc/self/fd"))
    snapshot.do()
    assert re.search(words, snapshot.watch.said[0]), snapshot.watch.said
    snapshot.stays("")
    assert not snapshot.whole()
    assert len(os.listdir("/proc/self/fd")) == open_files
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    survived(f"zstd {how}", 1, "the image stays as it came; exit status 0")


def test_without_zstd_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot(tmp_path, kind="compressed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nice").symlink_to("/usr/bin/nice")
    monkeypatch.setenv("DOMSNAP_PATH", str(tmp_path / "bin"))
    snapshot.do()
    snapshot.stays("No such file")


@pytest.mark.parametrize("when", ["reads", "reads back"])
def test_a_zstd_that_hangs_is_ended_by_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    snapshot = Snapshot(tmp_path, kind="compressed")
    here = f"echo $$ >'{tmp_path}/pid'; exec sleep 600"
    trouble(monkeypatch, tmp_path, here if when == "reads" else "ZSTD -q -c")
    if when == "reads back":
        fake = tmp_path / "bin/zstd"
        fake.write_text(fake.read_text().replace("exec /", f"{here}\nexec /"))

    def end() -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
        snapshot.signals.note(15)

    with ThreadPoolExecutor(1) as beside:
        beside.submit(end)
        snapshot.do()
    snapshot.stays("interrupted by signal 15")
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


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
    snapshot.stays("no room for 1 MiB beside it" if snapshot.kind == "compacted" else "no more room beside it")


def test_where_room_runs_out_it_stays(snapshot: Snapshot) -> None:
    there, asked = os.statvfs(snapshot.published.folder), 0

    def less(_: str) -> os.statvfs_result:
        nonlocal asked
        asked += 1
        free = 63 if asked > 2 else 99
        return type(there)([2**20, 2**20, 0, 0, free, *[0] * 5])

    with patch.object(os, "statvfs", less):
        snapshot.do()
    snapshot.stays("no more room beside it")


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
            if name == "write" and stat.S_ISFIFO(os.fstat(words[0]).st_mode):
                return real(*words, **named)  # as many as zstd takes, and nothing that lasts
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


def instants(root: Path, kind: str) -> Iterator[tuple[int, Snapshot]]:
    for last in range(1, 100):
        yield last, Snapshot(root / str(last), kind=kind)
    raise AssertionError("it never came to its end")


@every
@pytest.mark.parametrize("then", ["resumed", "machine rebooted"])
def test_killed_at_any_instant_the_snapshot_is_whole_and_nothing_is_left_in_the_end(
    tmp_path: Path, then: str, kind: str, survived: Survived
) -> None:
    seen = set()
    for last, snapshot in instants(tmp_path, kind):
        if not killed(snapshot, last):
            break
        seen.add((snapshot.whole(), len(snapshot.files())))
        if then == "resumed":
            snapshot.do(again=True)
            assert snapshot.whole() and snapshot.files() == snapshot.made
        else:
            compacted = snapshot.whole()
            snapshot.do(kind=AfterEnd, again=True)
            assert snapshot.whole() == compacted
            assert snapshot.files() == (snapshot.made if compacted else {"memory", "memory.sha256", "record.json"})
    assert last > 12
    # Alone, with its copy, with a digest of that, with the next record; then the other way round.
    assert seen == {(False, 3), (False, 4), (False, 5), (False, 6), (True, 5), (True, 4)}, seen
    survived(f"{kind}, killed at each call; then {then}", last - 1, "the record names a whole image; nothing is left")


@every
@pytest.mark.parametrize("number", [28, 5], ids=["ENOSPC", "EIO"])
def test_whatever_call_fails_the_snapshot_is_whole(tmp_path: Path, number: int, kind: str, survived: Survived) -> None:
    def fail(name: str) -> None:
        if name != "close":  # a file that was synced cannot fail to close
            raise OSError(number, os.strerror(number))

    for last, snapshot in instants(tmp_path, kind):
        if not until(snapshot, last, fail):
            break
        if not snapshot.whole():
            snapshot.stays("")
    assert last > 12
    survived(f"{kind}: each call fails ({os.strerror(number)})", last - 1, "the record names a whole image")


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
    made = snapshot.target.name
    assert done == [
        f"sync {made}", f"sync {made}.sha256", "sync folder", "sync record.json.part",
        "rename record.json.part", "sync folder", "sync folder", "remove memory.sha256", "remove memory",
    ]  # fmt: skip
