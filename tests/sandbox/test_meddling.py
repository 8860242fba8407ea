"""What others do to a host, a store or an image while domsnap is at work, or between two of its runs."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.sandbox.host import Sandbox
from tests.sandbox.test_apply import KINDS, domsnap, spec, start, whole
from tests.sandbox.test_faults import EXTERNAL, left, meanwhile

pytestmark = pytest.mark.slow


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return what a process printed and said to its end; end it if it hangs."""
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.parametrize("command", ["unpause", "list"])
def test_an_xl_that_hangs_is_ended_and_the_guest_goes_on(box: Sandbox, command: str, survived: Survived) -> None:
    box.environment["DOMSNAP_PATIENCE"] = "2"
    box.create("web01", KINDS)
    before = left(box)
    at = "hold the xl monitor" if command == "unpause" else "make an overlay"
    status, said = meanwhile(box, at, lambda: box.hang(command), spec(box, methods=EXTERNAL))
    whole(box)
    assert not (box.root / f"hang-{command}").exists(), "nothing hung"
    assert status in (0, 5), said
    assert status == 0 or ("no end within 2 seconds; it was killed" in said and left(box) == before), said
    survived(f"`xl {command}` hangs", 1, "it is ended after a while; the guest runs on")


def test_a_qemu_that_does_not_answer_is_given_up_and_what_is_left_is_said(box: Sandbox, survived: Survived) -> None:
    box.environment["DOMSNAP_PATIENCE"] = "4"
    box.create("web01", KINDS)
    before = left(box)
    pid = box.domain("web01").device_model[0]
    status, said = meanwhile(box, "make an overlay", lambda: os.kill(pid, signal.SIGSTOP), spec(box, methods=EXTERNAL))
    os.kill(pid, signal.SIGCONT)
    assert status in (5, 6), said
    assert "it took too long" in said or "no answer" in said, said
    whole(box)
    unnamed = [name for name in left(box) - before if Path(name).name not in said]
    assert not unnamed, said
    survived("QEMU's monitor does not answer", 1, "given up before the freeze; what is left is named")


def test_of_two_applies_at_once_the_second_is_refused(box: Sandbox, survived: Survived) -> None:
    box.tell(save_rate=2**17)
    box.create("web01", KINDS)
    first, second = spec(box, "one"), spec(box, "two")
    seen: list[str] = []

    def other() -> None:
        seen.append(domsnap(box, "apply", second, "--yes", status=4))

    status, said = meanwhile(box, "suspend", other, first)
    assert status == 0, said
    assert "plan" in seen[0] and "since" in seen[0], seen
    whole(box)
    assert not (box.store / "web01/two").exists()
    domsnap(box, "apply", second, "--yes")
    whole(box)
    survived("two `apply` of one domain at once", 1, "the second is refused with who holds the lock (4)")


def _new_file(box: Sandbox) -> None:
    path = box.srv / "web01-xvdb.raw"
    twin = path.with_suffix(".twin")
    twin.write_bytes(path.read_bytes())
    twin.rename(path)


def _taken_name(box: Sandbox) -> None:
    (box.store / "web01/one").mkdir(parents=True, mode=0o700)
    (box.store / "web01/one/notes.txt").write_text("mine")


def _again(box: Sandbox) -> None:
    box.xl("destroy", "web01")
    box.xl("create", str(box.root / "web01.cfg"))
    box.runs_on("web01")


CHANGES: dict[str, tuple[Callable[[Sandbox], object], str]] = {
    "an image is replaced by another file": (_new_file, "web01-xvdb.raw"),
    "the domain is created anew": (_again, "domid"),
    "a folder of the snapshot's name appears": (_taken_name, "one"),
    "the domain is gone": (lambda box: box.xl("destroy", "web01"), "web01"),
    "the domain is paused": (lambda box: box.xl("pause", "web01"), "paused"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_a_plan_was_made_is_named_and_nothing_is_done(
    box: Sandbox, change: str, survived: Survived
) -> None:
    box.create("web01", KINDS)
    plan = str(box.root / "plan.json")
    domsnap(box, "plan", spec(box, methods=EXTERNAL), "-o", plan)
    act, named = CHANGES[change]
    act(box)
    before = left(box)
    with start(box, "apply", plan, "--yes") as process:
        printed, said = ended(process)
    assert process.returncode in (1, 3), said
    assert named in said, said
    assert printed == "" or "Traceback" not in printed
    assert left(box) == before
    survived(f"between plan and apply: {change}", 1, "refused, the change named; nothing is touched")


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one bit flipped": _flip,
    "replaced by a symbolic link": _link,
    "replaced by a FIFO": _fifo,
    "gone": lambda path: path.unlink(),
    "empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("what", ["memory", "record.json"])
def test_a_revert_to_a_damaged_snapshot_leaves_the_guest_as_it_is(
    box: Sandbox, what: str, how: str, survived: Survived
) -> None:
    box.create("web01", KINDS)
    file = spec(box, methods=EXTERNAL)
    domsnap(box, "apply", file, "--yes")
    box.runs_on("web01", 3)
    DAMAGES[how](box.store / "web01/one" / what)
    before, domid = left(box), box.domain("web01").domid
    with start(box, "apply", file, "--revert", "--yes") as process:
        _, said = ended(process)
    assert process.returncode in (1, 3, 5), said
    assert "Traceback" not in said
    assert box.domain("web01").domid == domid, "the domain was ended for a snapshot that is damaged"
    whole(box)
    assert left(box) == before, said
    survived(f"{what} of a snapshot is {how}", 1, "the revert is refused, the guest runs on untouched")


def test_a_store_that_cannot_be_written_to_changes_nothing(box: Sandbox, survived: Survived) -> None:
    box.create("web01", KINDS)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=0700", "domsnap-test", box.store], check=True)
    try:
        with start(box, "apply", spec(box), "--yes") as process:
            _, said = ended(process)
        assert process.returncode == 1, said
        assert "Read-only file system" in said and "Traceback" not in said
        whole(box)
    finally:
        subprocess.run(["umount", "-l", box.store], check=True)
    survived("the store cannot be written to", 1, "refused before anything is touched")


def test_files_of_a_snapshot_are_for_root_alone(box: Sandbox) -> None:
    box.create("web01", KINDS)
    domsnap(box, "apply", spec(box, methods=EXTERNAL), "--yes")
    for path in (box.store / "web01", *(box.store / "web01").rglob("*")):
        # The copy of a disk has the mode of the disk, which it is to become: nobody else comes into its folder.
        assert path.suffix == ".raw" or stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_clock_that_goes_backwards_does_no_harm(box: Sandbox, survived: Survived) -> None:
    box.create("web01", KINDS)
    domsnap(box, "apply", spec(box, "one"), "--yes")
    box.runs_on("web01", 3)
    for record in (box.store / "web01").glob("*/record.json"):
        text = record.read_text()
        year = time.gmtime().tm_year
        assert f'"{year}-' in text
        record.write_text(text.replace(f'"{year}-', f'"{year + 1}-'))  # it was taken next year, by the clock of now
    domsnap(box, "apply", spec(box, "two"), "--yes")
    box.runs_on("web01", 40)
    late = box.mark("web01").counter
    domsnap(box, "apply", spec(box, "one"), "--revert", "--yes")
    assert box.mark("web01").counter < late
    whole(box)
    domsnap(box, "apply", spec(box, "two"), "--delete", "--yes")
    domsnap(box, "apply", spec(box, "one"), "--delete", "--yes")
    whole(box)
    survived("the clock goes backwards between two snapshots", 1, "both can be reverted to and deleted")


def test_an_xl_monitor_that_was_left_held_is_found(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    pid = box.domain("web01").monitor[0]
    let_go = f"let it go on: kill -s CONT {pid}\n"

    def status(expected: int | None) -> str:
        """Others' monitors on the same machine may be named as well: they are none of ours."""
        with start(box, "status", "--store", str(box.store)) as process:
            printed, said = ended(process)
        assert expected is None or process.returncode == expected, printed + said
        return printed

    assert let_go not in status(None)
    os.kill(pid, signal.SIGSTOP)
    assert let_go in status(6)
    os.kill(pid, signal.SIGCONT)
    assert let_go not in status(None)
    box.runs_on("web01")
