"""The companion that a script carries along, against a real QEMU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.script import _companion
from planner.commands import AwaitJob, Command, Qmp, Seal, canonical, to_json
from tests.executor.test_stream import image

QEMU = shutil.which("qemu-system-x86_64")
Ask = Callable[[Command | dict[str, Any]], str]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[str]:
    assert QEMU, "qemu-system-x86_64 is needed"
    path = tmp_path / "qmp"
    process = subprocess.Popen(
        [QEMU, "-M", "none", "-display", "none", "-nodefaults", "-qmp", f"unix:{path},server=on,wait=off",
         "-daemonize", "-pidfile", str(tmp_path / "pid")],
    )  # fmt: skip
    assert process.wait(60) == 0
    yield str(path)
    subprocess.run(["kill", (tmp_path / "pid").read_text().strip()], check=True)


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    program = tmp_path / "companion.py"
    program.write_text(_companion())
    with subprocess.Popen(
        [sys.executable, "-I", str(program), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        number = 0

        def asked(command: Command | dict[str, Any]) -> str:
            nonlocal number
            assert process.stdin and process.stdout
            number += 1
            said = command if isinstance(command, dict) else to_json(command)
            process.stdin.write(f"{number} {canonical(said)}\n")
            process.stdin.flush()
            answered, _, answer = process.stdout.readline().rstrip("\n").partition(" ")
            assert int(answered) == number
            return answer

        yield asked
        process.stdin.close()
        assert process.wait(60) == 0


def test_requests_to_a_real_qemu_come_back(monitor: str, ask: Ask, tmp_path: Path) -> None:
    assert ask({"connect": [monitor]}) == "ok"
    assert ask(Qmp(monitor, "query-status", prints='"running":true')) == "ok"
    assert "lacks" in ask(Qmp(monitor, "query-status", prints='"running":false'))
    assert "holds" in ask(Qmp(monitor, "query-status", lacks='"running":true'))
    assert ask(Qmp(monitor, "query-nothing")).startswith("failed: query-nothing: The command query-nothing has not")
    gone = {"node-name": "ds-none"}
    assert ask(Qmp(monitor, "blockdev-del", gone, tolerates="Failed to find node")) == "ok"
    assert ask(Qmp(monitor, "blockdev-del", gone, error="Failed to find node")) == "ok"
    assert "expected" in ask(Qmp(monitor, "query-status", error="Failed"))
    assert ask(Qmp(monitor, "query-nothing", when=("query-jobs", '"id":"none"'))) == "ok"
    file = tmp_path / "disk.raw"
    file.write_bytes(bytes(65536))
    node = {"driver": "raw", "node-name": "ds-é", "file": {"driver": "file", "filename": str(file)}}
    assert "failed" in ask(Qmp(monitor, "blockdev-add", node))  # a name that QEMU does not take is an answer, no end
    node["node-name"] = "ds-a"
    assert ask(Qmp(monitor, "blockdev-add", node)) == "ok"
    assert ask(Qmp(monitor, "query-named-block-nodes", prints='"node-name":"ds-a"')) == "ok"


def test_jobs_of_a_real_qemu_are_waited_for(monitor: str, ask: Ask, tmp_path: Path) -> None:
    for name in ("a", "b"):
        file = tmp_path / f"{name}.raw"
        file.write_bytes(bytes(1 << 20))
        node = {"driver": "raw", "node-name": name, "file": {"driver": "file", "filename": str(file)}}
        assert ask(Qmp(monitor, "blockdev-add", node)) == "ok"
    copy = {"device": "a", "target": "b", "sync": "full", "auto-dismiss": False}
    assert ask(Qmp(monitor, "blockdev-backup", {"job-id": "one", **copy})) == "ok"
    assert ask(AwaitJob(monitor, "one")) == "ok"
    assert ask(AwaitJob(monitor, "one", optional=True)) == "ok"
    assert "there is no job one" in ask(AwaitJob(monitor, "one"))
    assert ask(Qmp(monitor, "blockdev-mirror", {"job-id": "two", **copy})) == "ok"
    assert ask(AwaitJob(monitor, "two", complete=True)) == "ok"
    create = {"job-id": "three", "options": {"driver": "qcow2", "file": "a", "size": 1}}
    assert ask(Qmp(monitor, "blockdev-create", create)) == "ok"
    assert "the job three failed" in ask(AwaitJob(monitor, "three"))
    assert ask(Qmp(monitor, "query-jobs", prints=r"^\[\]$")) == "ok"


def test_a_monitor_that_is_not_there_is_said(ask: Ask, tmp_path: Path) -> None:
    assert "No such file" in ask({"connect": [str(tmp_path / "none")]})
    assert "No such file" in ask(Qmp(str(tmp_path / "none"), "query-status"))
    assert ask({"idle": {}}) == "ok"


def test_a_whole_image_is_sealed_so_that_sha256sum_agrees(ask: Ask, tmp_path: Path) -> None:
    part, digest = tmp_path / "memory.part", tmp_path / "memory.sha256"
    part.write_bytes(image())
    assert ask(Seal(str(part), str(digest), str(tmp_path / "memory"))) == "ok"
    assert ask(Seal(str(part), str(digest))).startswith("failed")  # it is there already
    part.rename(tmp_path / "memory")
    assert subprocess.run(["sha256sum", "--check", "--status", "--strict", "--", digest], check=False).returncode == 0
    for broken in (image()[:-1], image() + b"\0"):
        part.write_bytes(broken)
        assert ask(Seal(str(part))).startswith("failed")


def test_the_companion_needs_nothing_but_python(tmp_path: Path) -> None:
    with Path("/dev/null").open() as nothing:
        argv = [sys.executable, "-I", "-S", "-W", "error", "-", str(nothing.fileno())]
        done = subprocess.run(argv, input=_companion(), text=True, check=False, pass_fds=[nothing.fileno()])
    assert done.returncode == 0
    assert json.dumps(_companion().count("from executor")) == "0"
