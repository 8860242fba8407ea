"""What goes wrong around a running apply: disks that fill, QEMUs that die, guests that go."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.sandbox.host import Sandbox
from tests.sandbox.test_apply import KINDS, domsnap, spec, start, unfinished, whole

pytestmark = pytest.mark.slow
EXTERNAL = {"xvda": "external"}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture
def small(box: Sandbox) -> Iterator[Path]:
    """Make the store a file system of its own, with room for one snapshot."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "domsnap-test", box.store], check=True)
    try:
        yield box.store
    finally:
        subprocess.run(["umount", "-l", box.store], check=True)


def meanwhile(box: Sandbox, at: str, act: Callable[[], None], *words: str) -> tuple[int, str]:
    """Apply, and do something when a step whose line holds `at` begins; return exit status and all that was said.

    Apply stands still meanwhile. A program that it has started by then does not, however slow this machine is."""
    with start(box, "apply", *words, "--yes") as process:
        assert process.stderr
        said, done = [], False
        for line in process.stderr:
            said.append(line)
            if not done and line.startswith("[") and at in line:
                process.send_signal(signal.SIGSTOP)
                act()
                process.send_signal(signal.SIGCONT)
                done = True
        process.communicate(timeout=120)
    assert done, said
    return process.returncode, "".join(said)


def left(box: Sandbox) -> set[str]:
    return {name for name in box.files() if "/applied/" not in name}


@pytest.mark.parametrize("at", ["make the folder", "hold the xl monitor"])
def test_a_store_that_fills_up_undoes_everything_and_the_guest_goes_on(
    box: Sandbox, small: Path, at: str, survived: Survived
) -> None:
    box.create("web01", KINDS)
    before = left(box)

    def fill() -> None:
        argv = ["dd", "if=/dev/zero", f"of={small}/filler", "bs=64K", "status=none"]
        assert subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 1

    status, said = meanwhile(box, at, fill, spec(box, methods=EXTERNAL))
    assert status in (1, 5), said
    whole(box)
    assert left(box) - {"store/filler"} == before, said
    (small / "filler").unlink()
    domsnap(box, "apply", spec(box, methods=EXTERNAL), "--yes")
    whole(box)
    survived("the disk of the store fills up", 1, "everything is undone, the guest runs on")


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Sandbox]:
    """Have the disks on a file system of their own, with 8 MiB of data on the first, and room for as much again."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "domsnap-test", tmp_path], check=True)
    try:
        with Sandbox(srv=tmp_path) as box:
            file = box.configure("web01", {"xvda": "qcow2"})
            image = tmp_path / "web01-xvda.qcow2"
            subprocess.run(["qemu-img", "resize", "-q", image, "16M"], check=True)
            subprocess.run(["qemu-io", "-c", "write -q -P 7 4M 8M", image], check=True, stdout=subprocess.DEVNULL)
            box.xl("create", str(file))
            box.runs_on("web01", 0)
            yield box
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.parametrize(("verb", "at"), [("create", "make the folder"), ("delete", "rewrite the record")])
def test_disks_that_have_no_room_for_an_overlay_to_grow(tight: Sandbox, verb: str, at: str, survived: Survived) -> None:
    file, words = spec(tight, methods=EXTERNAL), [] if verb == "create" else ["--delete"]
    if verb == "delete":
        domsnap(tight, "apply", file, "--yes")
        tight.runs_on("web01", 20)
    before = left(tight)
    filler = tight.srv / "filler"

    def fill() -> None:
        argv = ["dd", "if=/dev/zero", f"of={filler}", "bs=4K", "status=none"]
        assert subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 1

    status, said = meanwhile(tight, at, fill, file, *words)
    assert status in (5, 6), said
    assert "o space left" in said, said
    filler.unlink()
    with tight.domain("web01").ask() as monitor:
        monitor("cont")  # this guest's disks wait for room; a Xen guest's would fail
    whole(tight)
    assert verb == "delete" or left(tight) == before, said
    domsnap(tight, "apply", file, *words, "--yes")
    whole(tight)
    if verb == "create":
        domsnap(tight, "apply", file, "--delete", "--yes")
        whole(tight)
    tight.xl("destroy", "web01")
    assert tight.hurt() == ""
    assert [path.name for path in tight.srv.iterdir()] == ["web01-xvda.qcow2"]
    assert tight.content(tight.srv / "web01-xvda.qcow2")[4 * 2**20 : 12 * 2**20] == b"\7" * (8 * 2**20)
    survived(f"{verb}: no room for an overlay to grow", 1, "the guest runs on, done anew once there is room")


@pytest.mark.parametrize("at", ["make an overlay", "rehearse", "suspend", "takes over", "wait for the copy"])
@pytest.mark.parametrize("how", ["QEMU is killed", "the guest is destroyed"])
def test_a_guest_that_dies_meanwhile_leaves_sound_disks_and_no_riddles(
    box: Sandbox, at: str, how: str, survived: Survived
) -> None:
    box.create("web01", KINDS)
    before, domid = left(box), box.domain("web01").domid

    def die() -> None:
        if how == "QEMU is killed":
            os.kill(box.domain("web01").device_model[0], signal.SIGKILL)
        else:
            box.xl("destroy", "web01")

    status, said = meanwhile(box, at, die, spec(box, methods=EXTERNAL))
    assert status in (0, 5, 6), said
    if at in ("make an overlay", "rehearse") and how == "QEMU is killed":
        assert status == 5, said  # what was only in QEMU has gone with it
    if status and how == "QEMU is killed":  # also when all was undone: the domain has no disks any more
        assert f"xl destroy -- {domid}" in [line.strip() for line in said.splitlines()], said
    if status == 5:
        assert left(box) == before, said
    named = [Path(name).name for name in left(box) - before if "~new" in name or "/one/" in name]
    assert status != 6 or ("by hand" in said and all(name in said for name in named)), said
    for path in box.srv.glob("*~new"):
        path.unlink()  # an overlay that was never in use, and that was named
    if how == "QEMU is killed":
        box.xl("destroy", "web01")
    assert box.hurt(leaks=how == "QEMU is killed") == ""
    box.xl("create", str(box.root / "web01.cfg"))
    # It begins with what its disks say, which a guest that died has left in the middle of a count.
    box.runs_on("web01")
    box.runs_on("web01")
    assert box.instant("web01").tear == ""
    survived(f"during a step {how}", 1, "images are sound; what is left is named")


def test_what_failed_after_the_commit_is_finished_once_its_cause_is_mended(box: Sandbox, survived: Survived) -> None:
    box.create("web01", KINDS)
    where = ("--store", str(box.store))

    def block() -> None:
        (box.store / "web01/one/memory").mkdir()
        (box.store / "web01/one/memory/x").touch()

    status, said = meanwhile(box, "wait for the copy", block, spec(box, methods=EXTERNAL))
    assert status == 6, said
    assert "or mend what is wrong: `domsnap resume web01` then does the rest" in said
    assert "THIS-SCRIPT" not in said and "memory.part must be whole" in said
    whole(box)
    assert "web01: take snapshot one of web01 failed in step" in domsnap(box, "status", *where, status=6)
    (box.store / "web01/one/memory/x").unlink()
    (box.store / "web01/one/memory").rmdir()
    domsnap(box, "resume", "web01", *where)
    assert not unfinished(box)
    domsnap(box, "verify", *where)
    domsnap(box, "apply", spec(box, methods=EXTERNAL), "--revert", "--yes")
    whole(box)
    survived("a step after the commit fails", 1, "said, with what is left; `resume` does that when the cause is mended")


def test_an_undo_that_failed_is_done_once_its_cause_is_mended(box: Sandbox, survived: Survived) -> None:
    box.environment["DOMSNAP_PATIENCE"] = "4"
    box.create("web01", KINDS)
    before = left(box)
    pid = box.domain("web01").device_model[0]
    status, said = meanwhile(box, "rehearse", lambda: os.kill(pid, signal.SIGSTOP), spec(box, methods=EXTERNAL))
    os.kill(pid, signal.SIGCONT)
    assert status == 6, said
    assert "or mend what is wrong: `domsnap abort web01` then undoes the rest" in said
    domsnap(box, "abort", "web01", "--store", str(box.store))
    assert left(box) == before
    whole(box)
    survived("QEMU does not answer, and nothing can be undone", 1, "said; `abort` undoes it when QEMU answers again")
