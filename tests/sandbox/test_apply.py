"""`domsnap apply` on a host with real QEMU guests: there and back, and killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.sandbox.host import Sandbox

KINDS = {"xvda": "qcow2", "xvdb": "raw", "xvdc": "job"}
MIXTURES = {
    "default": {},
    "external": {"xvda": "external"},
    "two chains": {"xvda": "external", "xvdb": "external"},
    "excluded": {"xvda": "internal", "xvdb": "{method: exclude, reason: swap}"},
}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


def spec(box: Sandbox, snapshot: str = "one", methods: dict[str, str] | None = None) -> str:
    path = box.root / f"{snapshot}.yaml"
    disks = "".join(f"  {vdev}: {method}\n" for vdev, method in (methods or {}).items())
    path.write_text(
        f"version: 1\ndomain: web01\nsnapshot: {snapshot}\nstore: {box.store}\n" + (disks and f"disks:\n{disks}")
    )
    return str(path)


def start(box: Sandbox, *words: str, module: str = "domsnap") -> subprocess.Popen[str]:
    environment = {**os.environ, **box.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], env=environment, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def domsnap(box: Sandbox, *words: str, status: int = 0) -> str:
    with start(box, *words) as process:
        printed, said = process.communicate(timeout=120)
    assert process.returncode == status, printed + said
    return printed + said


def unfinished(box: Sandbox) -> bool:
    """Say whether a plan of this store is. What `status` finds stopped may be another host's, on the same machine."""
    with start(box, "status", "--json", "--store", str(box.store)) as process:
        printed, said = process.communicate(timeout=120)
    assert process.returncode in (0, 6), printed + said
    return bool(json.loads(printed)["unfinished"])


def whole(box: Sandbox) -> None:
    """Hold that the guest goes on, with memory and disks of one instant, and that its lasting images are sound."""
    box.runs_on("web01")
    instant = box.instant("web01")
    assert instant.tear == ""
    assert box.lasting("web01") == ""


@pytest.mark.parametrize(
    "mixture", [pytest.param(each, marks=() if each == "default" else pytest.mark.slow) for each in MIXTURES]
)
def test_there_and_back_and_gone(box: Sandbox, mixture: str) -> None:
    kinds = {"xvda": "qcow2", "xvdb": "qcow2"} if mixture == "two chains" else KINDS
    box.create("web01", kinds)
    file = spec(box, methods=MIXTURES[mixture])
    before = box.mark("web01").counter
    domsnap(box, "apply", file, "--yes")
    taken = box.mark("web01").counter
    box.runs_on("web01", 40)
    whole(box)
    assert "nothing to do: web01/one exists" in domsnap(box, "apply", file, "--yes")

    late = box.mark("web01").counter
    domsnap(box, "apply", file, "--revert", "--yes")
    assert before < box.mark("web01").counter
    now = box.instant("web01")
    assert before <= now.mark.counter < late, (before, taken, now, late)
    if mixture != "excluded":
        assert now.tear == ""
        whole(box)
    domsnap(box, "apply", spec(box, "pre-revert-1"), "--delete", "--yes")
    domsnap(box, "apply", file, "--delete", "--yes")
    box.runs_on("web01")
    box.xl("destroy", "web01")
    assert box.hurt() == ""
    left = {name for name in box.files() if "/applied/" not in name}
    assert left == {f"srv/{path.name}" for path in box.srv.iterdir() if "pre-revert" not in path.name} | {
        "store/web01/current"
    }


def test_events_come_one_a_line(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    lines = [json.loads(line) for line in domsnap(box, "apply", spec(box), "--yes", "--json").splitlines()]
    assert {line["version"] for line in lines} == {1}
    assert lines[0]["text"].startswith("[1/")
    assert lines[-1] == {"version": 1, "event": "end", "text": "done"}
    assert any("the guest runs; it stood still for " in line["text"] for line in lines)


@pytest.mark.slow
def test_a_saved_plan_is_held_against_the_host_of_now(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    file, plan = spec(box), str(box.root / "plan.json")
    domsnap(box, "plan", file, "-o", plan)
    box.xl("destroy", "web01")
    box.xl("create", str(box.root / "web01.cfg"))
    box.runs_on("web01")
    said = domsnap(box, "apply", plan, "--yes", status=3)
    assert "domain web01: domid: was 1, is 2" in said
    assert not list(box.store.iterdir())
    domsnap(box, "plan", file, "-o", plan)
    domsnap(box, "apply", plan, "--yes")
    assert "was applied already" in domsnap(box, "apply", plan, "--yes", status=3)


def test_apply_asks_and_without_a_terminal_it_says_so(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    assert "give --yes" in domsnap(box, "apply", spec(box), status=1)
    assert not list(box.store.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("at", ["suspend", "the new image takes over"])
def test_a_signal_is_acted_on_and_the_guest_goes_on(box: Sandbox, at: str, number: int, survived: Survived) -> None:
    box.create("web01", KINDS)
    files = box.files()
    with start(box, "apply", spec(box, methods={"xvda": "external"}), "--yes") as process:
        assert process.stderr
        for line in process.stderr:
            if at in line and line.startswith("["):
                process.send_signal(number)
                break
        said = process.stderr.read()
        process.communicate(timeout=60)
    whole(box)
    if process.returncode == 128 + number:
        assert "everything was undone" in said
        assert {name for name in box.files() if "/applied/" not in name} == files
    else:
        assert process.returncode == 6, said  # it came after the last point of return: what is left is said
        assert "finishes it" in domsnap(box, "status", "--store", str(box.store), status=6)
        domsnap(box, "resume", "web01", "--store", str(box.store))
    survived(
        f"{signal.Signals(number).name} while a real QEMU guest stands still", 1, "undone, or finished by `resume`"
    )


@pytest.mark.parametrize("verb", ["create", "revert"])
@pytest.mark.parametrize("at", [pytest.param(at, marks=() if at == 7 else pytest.mark.slow) for at in (3, 7, 9, 12)])
def test_the_guardian_of_a_killed_apply_lets_the_guest_go_on(
    box: Sandbox, verb: str, at: int, survived: Survived
) -> None:
    box.create("web01", KINDS)
    file = spec(box, methods={"xvda": "external"})
    if verb == "revert":
        domsnap(box, "apply", file, "--yes")
    words = ("--revert",) if verb == "revert" else ()
    with start(box, "apply", file, "--yes", *words) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith(f"[{at}/"):
                process.kill()
                break
        said = process.stderr.read()  # to its end: the guardian has it too
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert "its guardian lets the guest run on" in said
    limit = time.monotonic() + 60
    while unfinished(box):
        assert time.monotonic() < limit
    whole(box)
    if "everything was undone" in said:
        domsnap(box, "apply", file, "--yes", *words)
        whole(box)
    survived(f"{verb} of a real QEMU guest: `apply` killed in a step", 1, "its guardian lets the guest run on")
