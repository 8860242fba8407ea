"""Live captures of real QEMU guests: memory and disks of one instant, and the guest runs on whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.sandbox.host import Sandbox
from tests.sandbox.test_apply import domsnap, start, unfinished, whole
from tests.sandbox.test_faults import meanwhile

KINDS = {"xvda": "qcow2", "xvdb": "raw"}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox("4.20.2") as box:
        yield box


def spec(box: Sandbox, snapshot: str = "one", more: str = "") -> str:
    """Write the spec of a live snapshot. QEMU hands the images over here as a real one does for HVM guests, so they
    are snapshotted outside."""
    path = box.root / f"{snapshot}.yaml"
    path.write_text(
        f"version: 1\ndomain: web01\nsnapshot: {snapshot}\nstore: {box.store}\n"
        f"memory: {{capture: live{more}}}\ndisks:\n  xvda: external\n"
    )
    return str(path)


def create(box: Sandbox) -> None:
    box.create("web01", KINDS, kind="hvm")


def left(box: Sandbox) -> set[str]:
    return {name for name in box.files() if "/applied/" not in name}


def test_there_and_back_and_gone(box: Sandbox) -> None:
    create(box)
    before = box.mark("web01").counter
    said = domsnap(box, "apply", spec(box), "--yes")
    assert "while it ran; now it stands still" in said and "the guest runs; it stood still for at least" in said
    taken = box.mark("web01").counter
    box.runs_on("web01", 40)
    whole(box)
    late = box.mark("web01").counter
    domsnap(box, "verify", "web01", "--store", str(box.store))
    domsnap(box, "apply", spec(box), "--revert", "--discard-current", "--yes")
    now = box.instant("web01")
    assert now.tear == ""
    assert before <= now.mark.counter < late, (before, taken, now, late)
    whole(box)
    domsnap(box, "apply", spec(box), "--delete", "--yes")
    whole(box)
    box.xl("destroy", "web01")
    assert box.hurt() == ""
    assert left(box) == {"srv/web01-xvda.qcow2", "srv/web01-xvdb.raw", "store/web01/current"}


@pytest.mark.slow
def test_ten_in_a_row_each_of_one_instant(box: Sandbox) -> None:
    create(box)
    for number in range(10):
        domsnap(box, "apply", spec(box, f"s{number}"), "--yes")
        whole(box)
    late = box.mark("web01").counter
    domsnap(box, "apply", spec(box, "s4"), "--revert", "--yes")
    assert box.instant("web01").tear == ""
    assert box.instant("web01").mark.counter < late
    whole(box)
    domsnap(box, "verify", "web01", "--store", str(box.store))


# --- what goes wrong


def pids(box: Sandbox, word: str) -> list[int]:
    """Return the processes of this host with this word in their command lines."""
    return [pid for pid in box.processes() if word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]


def companion(box: Sandbox) -> list[int]:
    return [pid for pid in pids(box, "-I") if Path(f"/proc/{pid}/cmdline").read_text().startswith("python3\0-I\0-\0")]


def receiver(box: Sandbox) -> list[int]:
    return [pid for pid in box.processes() if "/receive.py\0" in Path(f"/proc/{pid}/cmdline").read_text()]


def kill(each: list[int]) -> None:
    assert each
    for pid in each:
        os.kill(pid, signal.SIGKILL)


KILLED: dict[str, Callable[[Sandbox], list[int]]] = {
    "the receiver": receiver,
    "xl migrate": lambda box: pids(box, "migrate"),
    "apply": lambda box: pids(box, "apply")[:1],
    "apply and its guardian": lambda box: pids(box, "apply"),
    "the script": lambda box: pids(box, str(box.root / "script.sh")),
    "the companion": companion,
    "script, companion and receiver": lambda box: (
        pids(box, str(box.root / "script.sh")) + companion(box) + receiver(box)
    ),
}


def wait(wanted: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not wanted():
        assert time.monotonic() < limit
        time.sleep(0.01)


@dataclass(slots=True)
class Attempt:
    """An `apply`, or a script; its exit status and all that was said, by a guardian too, once it has ended."""

    process: subprocess.Popen[str]
    status: int = 0
    said: str = ""

    def end(self) -> None:
        printed, said = self.process.communicate(timeout=120)
        self.status, self.said = self.process.returncode, printed + said


def begin(box: Sandbox, shell: str = "", more: str = "") -> subprocess.Popen[str]:
    """Begin an `apply`, or the printed script in a shell."""
    if not shell:
        return start(box, "apply", spec(box, more=more), "--yes")
    file = str(box.root / "script.sh")
    domsnap(box, "script", spec(box, more=more), "-o", file)
    return subprocess.Popen(
        [*shell.split(), file], env=box.environment, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def copying(box: Sandbox, shell: str = "", more: str = "", rate: int = 300_000) -> Iterator[Attempt]:
    """Begin, up to where some of the memory has come, slowly: of some 280,000 bytes `rate` in a second."""
    box.tell(save_rate=rate)
    with begin(box, shell, more) as process:
        part = box.store / "web01/one/memory.part"
        try:
            wait(lambda: part.exists() and part.stat().st_size > 10_000)
            yield (attempt := Attempt(process))
        finally:
            box.tell(save_rate=0)
        attempt.end()


@contextmanager
def suspended(box: Sandbox, shell: str = "") -> Iterator[Attempt]:
    """Begin, up to where a disk is being copied while the guest stands still: that goes on until the end of this."""
    cp, slow, at_work = (box.root / name for name in ("bin/cp", "slow", "at-work"))
    slow.touch()
    cp.write_text(
        f'#!/bin/sh\ncase $* in *--sparse*) ;; *) exec /bin/cp "$@" ;; esac\ntouch {at_work}\n'
        f'while [ -e {slow} ]; do sleep 0.05; done\n/bin/cp "$@"\nstatus=$?\n'
        f"echo copied >>{box.root}/clock\nexit $status\n"
    )
    cp.chmod(0o755)
    with begin(box, shell) as process:
        wait(lambda: at_work.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        assert box.domain("web01").held == "suspended"
        try:
            yield (attempt := Attempt(process))
            time.sleep(0.5)  # for whoever would let the guest go too early
            assert box.domain("web01").held == "suspended"
        finally:
            slow.unlink()
        attempt.end()


def as_before(box: Sandbox, before: set[str]) -> None:
    """Hold that nothing is left of an attempt, and that the next one comes to its end."""
    assert left(box) == before
    whole(box)
    domsnap(box, "apply", spec(box), "--yes")
    whole(box)


@pytest.mark.parametrize("who", ["the receiver", "xl migrate"])
def test_a_copy_that_is_cut_off_leaves_nothing_behind(box: Sandbox, who: str, survived: Survived) -> None:
    create(box)
    before = left(box)
    with copying(box) as attempt:
        kill(KILLED[who](box))
    status, said = attempt.status, attempt.said
    assert status == 5 and "everything was undone" in said, said
    as_before(box, before)
    survived(f"{who} is killed while a live capture copies", 1, "the guest runs on, everything is undone")


def test_a_copy_that_takes_too_long_is_given_up_while_the_guest_runs(box: Sandbox, survived: Survived) -> None:
    create(box)
    before = left(box)
    with copying(box, more=", give_up: {after: 1s, size: 100x}", rate=100_000) as attempt:
        assert attempt.process.wait(60) == 5
        assert box.domain("web01").held == ""
        box.runs_on("web01")
    assert "given up: not done after 1 seconds, as `memory.give_up.after` says" in attempt.said, attempt.said
    assert "everything was undone" in attempt.said
    as_before(box, before)
    survived("a live capture is given up for its time", 1, "the guest runs on, everything is undone")


@pytest.mark.parametrize("who", ["apply", "apply and its guardian"])
@pytest.mark.parametrize("when", [copying, suspended], ids=["while it copies", "while the guest stands still"])
def test_a_live_apply_that_is_killed_is_undone(
    box: Sandbox, who: str, when: Callable[[Sandbox], Iterator[Attempt]], survived: Survived
) -> None:
    create(box)
    before = left(box)
    with when(box) as attempt:  # type: ignore[attr-defined]
        kill(KILLED[who](box))
    status, said = attempt.status, attempt.said
    assert status == -signal.SIGKILL
    if who == "apply":
        assert "its guardian lets the guest run on" in said and "everything was undone" in said, said
        wait(lambda: not unfinished(box))
    else:
        box.runs_on("web01")  # by itself
        assert "was cut off" in domsnap(box, "status", "--store", str(box.store), status=6)
        domsnap(box, "abort", "web01", "--store", str(box.store))
    as_before(box, before)
    survived(f"{who} killed in a live capture", 1, "the guest runs on; undone, by the guardian or by `abort`")


def test_a_guest_whose_receiver_is_killed_stands_still_until_its_disks_are_done(
    box: Sandbox, survived: Survived
) -> None:
    create(box)
    with suspended(box) as attempt:
        kill(receiver(box))
    status, said = attempt.status, attempt.said
    assert status == 0, said
    clock = [line.split()[0] for line in (box.root / "clock").read_text().splitlines()]
    assert clock[-3:] == ["stopped", "copied", "running"]
    whole(box)
    domsnap(box, "apply", spec(box), "--revert", "--discard-current", "--yes")
    whole(box)
    survived("the receiver is killed while a disk is at work", 1, "the guest waits for the disk; the snapshot is whole")


def test_a_guest_whose_xl_is_killed_is_let_go_by_xl_resume(box: Sandbox, survived: Survived) -> None:
    create(box)
    with suspended(box) as attempt:
        kill(KILLED["xl migrate"](box))
    status, said = attempt.status, attempt.said
    assert status == 0, said
    whole(box)
    survived("xl migrate is killed while the guest stands still, Xen 4.20", 1, "the guest is let go by `xl resume`")


def test_a_guest_whose_xl_is_killed_before_xen_4_20_is_named_with_what_lets_it_go(survived: Survived) -> None:
    with Sandbox("4.17.7") as box:
        create(box)
        with suspended(box) as attempt:
            kill(KILLED["xl migrate"](box))
        status, said = attempt.status, attempt.said
        assert status == 6 and "xc_domain_resume" in said and "is suspended" in said, said
        assert "web01" in (told := domsnap(box, "status", "--store", str(box.store), status=6))
        assert "suspended" in told
        domsnap(box, "resume", "web01", "--store", str(box.store), status=6)
        box.xl("save", "-c", "web01", str(box.root / "aside"))  # as good as the library, which has no Xen here
        domsnap(box, "resume", "web01", "--store", str(box.store))
        whole(box)
        domsnap(box, "apply", spec(box), "--revert", "--discard-current", "--yes")
        whole(box)
        survived("xl migrate is killed while the guest stands still, Xen 4.17", 1, "said, with the commands; `resume`")


def test_a_disk_that_is_full_ends_the_copy(box: Sandbox, survived: Survived) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0700", "domsnap-test", box.store], check=True)
    try:
        create(box)
        before = left(box)

        def fill() -> None:
            argv = ["dd", "if=/dev/zero", f"of={box.store}/filler", "bs=64K", "status=none"]
            assert subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 1
            os.truncate(box.store / "filler", (box.store / "filler").stat().st_size - 2**17)

        status, said = meanwhile(box, "write the memory", fill, spec(box))
        assert status == 5 and "No space left on device" in said, said
        (box.store / "filler").unlink()
        as_before(box, before)
    finally:
        subprocess.run(["umount", "-l", box.store], check=True)
    survived("the disk fills up while a live capture copies", 1, "the guest runs on, everything is undone")


def test_a_guest_that_powers_off_meanwhile_is_off_and_nothing_is_left(box: Sandbox, survived: Survived) -> None:
    create(box)
    before = left(box)
    with copying(box) as attempt:
        box.xl("shutdown", "-w", "web01")
    status, said = attempt.status, attempt.said
    assert status == 5 and "acknowledge suspend" in said, said
    assert left(box) == before
    box.xl("destroy", "web01")
    assert box.hurt() == ""
    survived("the guest powers off while a live capture copies", 1, "it is off; everything is undone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_copy(box: Sandbox, number: int, survived: Survived) -> None:
    create(box)
    before = left(box)
    with copying(box) as attempt:
        attempt.process.send_signal(number)
    status, said = attempt.status, attempt.said
    assert status == 128 + number and "everything was undone" in said, said
    as_before(box, before)
    survived(f"{signal.Signals(number).name} while a live capture copies", 1, "the guest runs on, everything is undone")


# --- the printed script

SHELLS = pytest.mark.parametrize("shell", ["dash", pytest.param("busybox sh", marks=pytest.mark.slow)])
WHEN = pytest.mark.parametrize("when", [copying, suspended], ids=["while it copies", "while the guest stands still"])
When = Callable[[Sandbox, str], AbstractContextManager[Attempt]]


def clock(box: Sandbox) -> list[str]:
    """Return what has become of the guest and of the disk that was at work, in this order."""
    return [line.split()[0] for line in (box.root / "clock").read_text().splitlines()]


@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
def test_a_script_takes_a_snapshot_there_and_back(box: Sandbox, shell: str) -> None:
    create(box)
    with begin(box, shell) as process:
        printed, said = process.communicate(timeout=120)
    assert (process.returncode, printed) == (0, ""), said
    assert "while it ran; now it stands still" in said
    box.runs_on("web01", 40)
    whole(box)
    late = box.mark("web01").counter
    domsnap(box, "verify", "web01", "--store", str(box.store))
    domsnap(box, "apply", spec(box), "--revert", "--discard-current", "--yes")
    now = box.instant("web01")
    assert now.tear == "" and now.mark.counter < late
    whole(box)
    assert not list((box.root / "lock").glob("*.work"))


@WHEN
@pytest.mark.parametrize("who", ["the script", "script, companion and receiver"])
@SHELLS
def test_a_guest_whose_script_is_killed_waits_for_the_disk_at_work_and_runs_on(
    box: Sandbox, who: str, when: When, shell: str, survived: Survived
) -> None:
    create(box)
    with when(box, shell) as attempt:
        kill(KILLED[who](box))
    assert attempt.status == -signal.SIGKILL, attempt.said
    wait(lambda: not pids(box, "migrate"))
    if when is suspended:
        assert clock(box)[-3:] == ["stopped", "copied", "running"]
    whole(box)
    assert not companion(box) and not receiver(box)
    survived(f"{who} killed in a live capture", 1, "the guest runs on, once the disk at work is done")


@pytest.mark.parametrize("who", ["the receiver", "xl migrate"])
@SHELLS
def test_a_copy_of_a_script_that_is_cut_off_leaves_nothing_behind(
    box: Sandbox, who: str, shell: str, survived: Survived
) -> None:
    create(box)
    before = left(box)
    with copying(box, shell) as attempt:
        kill(KILLED[who](box))
    assert attempt.status == 5 and "everything was undone" in attempt.said, attempt.said
    as_before(box, before)
    survived(f"{who} is killed while a script copies", 1, "the guest runs on, everything is undone")


@pytest.mark.parametrize("who", ["the receiver", "xl migrate"])
@SHELLS
def test_a_script_goes_on_though_what_holds_the_guest_is_killed(
    box: Sandbox, who: str, shell: str, survived: Survived
) -> None:
    create(box)
    with suspended(box, shell) as attempt:
        kill(KILLED[who](box))
    assert attempt.status == 0, attempt.said
    assert clock(box)[-3:] == ["stopped", "copied", "running"]
    whole(box)
    domsnap(box, "apply", spec(box), "--revert", "--discard-current", "--yes")
    whole(box)
    survived(f"{who} is killed while a script's disk is at work", 1, "the guest waits for it; the snapshot is whole")


@WHEN
@SHELLS
def test_a_companion_that_is_killed_does_not_keep_the_guest(
    box: Sandbox, when: When, shell: str, survived: Survived
) -> None:
    create(box)
    with when(box, shell) as attempt:
        kill(companion(box))
    assert attempt.status == 6 and "the companion has ended" in attempt.said, attempt.said
    assert "    printf" in attempt.said and "xl resume" not in attempt.said, attempt.said
    if when is suspended:
        assert clock(box)[-3:] == ["stopped", "copied", "running"]
    whole(box)
    survived("a script's companion is killed in a live capture", 1, "the guest runs on; what is left is said")


def test_a_script_names_what_lets_a_guest_go_whose_xl_was_killed_before_xen_4_20(survived: Survived) -> None:
    with Sandbox("4.17.7") as box:
        create(box)
        with suspended(box, "dash") as attempt:
            kill(KILLED["xl migrate"](box))
        said = attempt.said.splitlines()
        assert attempt.status == 6, said
        assert any("is suspended" in line for line in said)
        assert any(line.startswith("    xl resume -- ") for line in said)
        assert sum("xc_domain_resume" in line for line in said) == 2
        assert box.domain("web01").held == "suspended"
        survived("xl migrate is killed while a script holds the guest, Xen 4.17", 1, "said, with the commands")


@WHEN
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@SHELLS
def test_a_signal_ends_a_script_and_everything_is_undone(
    box: Sandbox, when: When, number: int, shell: str, survived: Survived
) -> None:
    create(box)
    before = left(box)
    with when(box, shell) as attempt:
        attempt.process.send_signal(number)
    assert attempt.status == 128 + number and "everything was undone" in attempt.said, attempt.said
    as_before(box, before)
    survived(f"{signal.Signals(number).name} in a script's live capture", 1, "the guest runs on, everything is undone")


@SHELLS
def test_ctrl_backslash_does_not_disturb_a_script_that_copies(box: Sandbox, shell: str) -> None:
    create(box)
    with copying(box, shell) as attempt:
        attempt.process.send_signal(signal.SIGQUIT)
    assert attempt.status == 0, attempt.said
    whole(box)
