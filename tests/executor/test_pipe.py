"""A program that reads what another prints: both must end well, and neither outlives the other, nor its pipe."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from domsnap.shown import shown
from executor import by_hand
from executor.companion import Failed
from executor.programs import Hung, Missing, run
from executor.signals import Signals
from planner.commands import Run
from planner.operations.domain import restore

SIGNALS = Signals()
ENOUGH = "0123456789" * 100_000  # more than a pipe holds


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def given(tmp_path: Path) -> str:
    path = tmp_path / "given"
    path.write_text(ENOUGH)
    return str(path)


def sh(lines: str) -> tuple[str, ...]:
    return ("sh", "-c", lines)


def do(argv: tuple[str, ...], given: tuple[str, ...]) -> None:
    run(Run(argv, input=given), SIGNALS)


def test_it_reads_all_that_is_printed(tmp_path: Path, given: str) -> None:
    made = tmp_path / "made"
    do(sh(f"cat >'{made}'"), ("cat", "--", given))
    assert made.read_text() == ENOUGH


@pytest.mark.parametrize("argv,source,words", [
    ("cat >/dev/null", "cat -- FILE; exit 3", "exit status 3"),
    ("cat >/dev/null", "cat -- FILE; kill -KILL $$", "exit status -9"),
    ("cat >/dev/null; echo no luck >&2; exit 4", "cat -- FILE", "exit status 4"),
    ("echo no luck >&2; exit 4", "exec cat -- FILE", "exit status 4"),  # its source then writes to nobody
    ("exit 0", "exec cat -- FILE", "exit status -13"),
], ids=["source fails", "source is killed", "it fails", "it fails early", "it reads nothing"])  # fmt: skip
def test_it_fails_if_either_does(given: str, argv: str, source: str, words: str) -> None:
    with pytest.raises(Failed, match=words):
        do(sh(argv), sh(source.replace("FILE", given)))


@pytest.mark.parametrize(
    "argv,source", [(("cat",), ("no-such-program",)), (("no-such-program",), ("cat", "/dev/zero"))]
)
def test_a_missing_program_is_said(argv: tuple[str, ...], source: tuple[str, ...]) -> None:
    with pytest.raises(Missing, match="no-such-program: not found"):
        do(argv, source)


def test_what_is_not_read_because_a_daemon_holds_the_pipe_is_ended(
    tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOMSNAP_PATIENCE", "1")
    pid = tmp_path / "pid"
    daemon = f"sleep 600 <&3 3<&- >/dev/null 2>&1 & echo $! >'{pid}'"
    with pytest.raises(Hung, match="cat"):
        do(sh(f"exec 3<&0; {daemon}"), ("cat", "--", given))
    os.kill(int(pid.read_text()), 9)
    with suppress(ChildProcessError):  # it is ours where we are the first process of a namespace
        os.waitpid(int(pid.read_text()), 0)


def test_a_hung_program_takes_its_source_along(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMSNAP_PATIENCE", "1")
    with pytest.raises(Hung, match="sleep"):
        do(("sleep", "600"), ("cat", "--", given))


def test_it_is_told_as_a_pipeline_that_can_be_pasted() -> None:
    told = "zstd -d -c -q -- '/a b' | xl restore -- /dev/stdin"
    assert list(by_hand.lines([restore("/a b", compressed=True)])) == [told]
    assert shown(restore("/a b", compressed=True)) == told
    there = ("xl", "domid", "--", "web01")
    guarded = replace(restore("/a b", compressed=True), when=("test", "-s", "/x"), unless=there)
    (line,) = by_hand.lines([guarded])
    assert line == f"test -s /x && {{ xl domid -- web01 || {told}; }}"
    assert subprocess.run(["dash", "-n", "-c", line], check=False).returncode == 0
