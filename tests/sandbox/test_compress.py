"""Snapshots with compressed memory: there and back by `apply` and by scripts; what was altered is never restored."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from planner.compile import compile_plan
from schema.read import read_specs
from tests.conftest import Survived
from tests.sandbox.host import Sandbox
from tests.sandbox.test_apply import domsnap, start, unfinished, whole
from tests.sandbox.test_live import Attempt, kill, pids, wait

KINDS = {"xvda": "qcow2", "xvdb": "raw"}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as box:
        box.create("web01", KINDS)
        yield box


def spec(box: Sandbox) -> str:
    path = box.root / "one.yaml"
    path.write_text(f"version: 1\ndomain: web01\nsnapshot: one\nstore: {box.store}\nmemory: {{compress: zstd}}\n")
    return str(path)


def memory(box: Sandbox) -> Path:
    (path,) = (path for path in (box.store / "web01/one").glob("memory*") if path.suffix != ".sha256")
    return path


def taken(box: Sandbox) -> int:
    """Take the snapshot; return a count that the guest had reached only later."""
    said = domsnap(box, "apply", spec(box), "--yes")
    assert "MiB compressed" in said, said
    assert memory(box).name == "memory.zst"
    assert subprocess.run(["sha256sum", "-c", f"{memory(box)}.sha256"], check=False).returncode == 0
    box.runs_on("web01", 40)
    return box.mark("web01").counter


def back(box: Sandbox, late: int) -> None:
    """Hold that the guest has been brought back, and that no zstd is left behind."""
    now = box.instant("web01")
    assert now.tear == "" and now.mark.counter < late
    whole(box)
    assert not [pid for pid in box.processes() if Path(f"/proc/{pid}/comm").read_text() == "zstd\n"]


def test_there_and_back_and_gone(box: Sandbox) -> None:
    late = taken(box)
    assert "nothing to do: web01/one exists" in domsnap(box, "apply", spec(box), "--yes")
    shown = " ".join(domsnap(box, "show", "web01", "one", "--store", str(box.store)).split())  # lines of any length
    assert "8 MiB of RAM compressed (" in shown
    domsnap(box, "verify", "web01", "--store", str(box.store))
    domsnap(box, "apply", spec(box), "--revert", "--yes")
    back(box, late)
    box.xl("destroy", "web01")
    assert "xl restore -- /dev/stdin" in domsnap(box, "plan", spec(box), "--revert", "-v")
    domsnap(box, "apply", spec(box), "--revert", "--discard-current", "--yes")
    back(box, late)
    domsnap(box, "apply", spec(box), "--delete", "--yes")
    assert not (box.store / "web01/one").exists()


def test_a_script_brings_it_back(box: Sandbox) -> None:
    late = taken(box)
    (declared,) = read_specs(Path(spec(box)).read_bytes(), "one.yaml")
    box.apply(compile_plan("revert", declared, box.facts("web01")))
    back(box, late)


@pytest.mark.parametrize("how", ["cut", "a flipped bit", "gone", "another file of its kind"])
def test_what_was_altered_is_found_and_not_restored(box: Sandbox, how: str, survived: Survived) -> None:
    taken(box)
    path = memory(box)
    data = bytearray(path.read_bytes())
    match how:
        case "cut":
            path.write_bytes(data[:-100])
        case "a flipped bit":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "gone":
            path.unlink()
        case _:  # with a digest that fits
            path.write_bytes(b"no image")
            digest = subprocess.run(["sha256sum", "--", path], check=True, capture_output=True, text=True).stdout
            Path(f"{path}.sha256").write_text(digest)
    said = domsnap(box, "verify", "web01", "--store", str(box.store), status=6)
    words = {"gone": "lost", "another file of its kind": "cannot be decompressed"}
    assert words.get(how, "its SHA-256 is another") in said
    before = box.mark("web01").counter
    assert "nothing was changed" in domsnap(box, "apply", spec(box), "--revert", "--yes", status=1)
    box.runs_on("web01")
    assert box.mark("web01").counter > before
    survived(f"compressed memory: {how}", 1, "verify says so; a revert changes nothing")


def test_without_zstd_it_is_refused(box: Sandbox) -> None:
    late = taken(box)
    only = box.root / "only"
    only.mkdir()
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(folder).iterdir():
            if program.name != "zstd" and not (only / program.name).exists():
                (only / program.name).symlink_to(program)
    box.environment["DOMSNAP_PATH"] = f"{box.root}/bin:{only}"
    assert "apt install zstd" in domsnap(box, "apply", spec(box), "--revert", "--yes", status=1)
    said = domsnap(box, "verify", "web01", "--store", str(box.store), "--json")
    outcomes = {each["what"]: each["outcome"] for each in json.loads(said)["findings"]}
    assert outcomes["memory"] == "unchecked"
    assert box.mark("web01").counter >= late


@contextmanager
def restoring(box: Sandbox) -> Iterator[Attempt]:
    """Begin a revert, up to where zstd has been started and xl waits for what it prints: until the end of this."""
    slow, at_work = box.root / "slow", box.root / "at-work"
    slow.touch()
    fake = box.root / "bin/zstd"
    fake.write_text(
        f'#!/bin/sh\nif [ "$1 $2" = "-d -c" ]; then\n  touch {at_work}\n'
        f"  while [ -e {slow} ]; do sleep 0.05; done\nfi\n"
        f'exec {shutil.which("zstd")} "$@"\n'
    )
    fake.chmod(0o755)
    with start(box, "apply", spec(box), "--revert", "--yes") as process:
        wait(lambda: (at_work.exists() and pids(box, "restore")) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        try:
            yield (attempt := Attempt(process))
        finally:
            slow.unlink()
        attempt.end()
    fake.unlink()


def present(box: Sandbox, count: int) -> None:
    """Hold that the guest goes on from where it was, that its snapshots are as they were, and that a revert works."""
    assert box.mark("web01").counter >= count
    whole(box)
    assert not unfinished(box)
    assert not (box.store / "web01/pre-revert-1").exists()
    domsnap(box, "verify", "web01", "--store", str(box.store))
    now = box.mark("web01").counter
    domsnap(box, "apply", spec(box), "--revert", "--yes")
    back(box, now)


def test_a_signal_waits_for_the_end_of_a_restore_and_all_is_undone(box: Sandbox, survived: Survived) -> None:
    late = taken(box)
    with restoring(box) as attempt:
        attempt.process.send_signal(signal.SIGTERM)
    assert attempt.status == 128 + signal.SIGTERM and "everything was undone" in attempt.said, attempt.said
    present(box, late)
    survived("SIGTERM while compressed memory is restored", 1, "undone, the guest runs on")


def test_a_killed_zstd_is_a_failed_restore_and_all_is_undone(box: Sandbox, survived: Survived) -> None:
    late = taken(box)
    with restoring(box) as attempt:
        kill(pids(box, str(box.root / "bin/zstd")))
    assert attempt.status == 5 and "everything was undone" in attempt.said, attempt.said
    present(box, late)
    survived("zstd killed while compressed memory is restored", 1, "undone, the guest runs on")


@pytest.mark.parametrize("who", ["apply", "apply and its guardian"])
def test_killed_while_it_restores_it_is_undone(box: Sandbox, who: str, survived: Survived) -> None:
    late = taken(box)
    with restoring(box) as attempt:
        kill(pids(box, "apply")[: 1 if who == "apply" else None])
    assert attempt.status == -signal.SIGKILL
    if who == "apply":
        wait(lambda: not unfinished(box))
    else:
        domsnap(box, "abort", "web01", "--store", str(box.store))
    present(box, late)
    survived(f"{who} killed while compressed memory is restored", 1, "the restore ends, then it is undone")
