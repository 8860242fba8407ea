"""The stand-in host itself: its guests count, xl does and says what the real one does, nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.stream import BrokenImage, walk
from planner.operations.domain import HELD, LET_GO, RUNS, listed
from tests.oracles.transcript import transcript
from tests.sandbox import domains, guest, qemu
from tests.sandbox.domains import Domain
from tests.sandbox.guest import Instant, Mark
from tests.sandbox.host import UUID, Sandbox


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def state(box: Sandbox, name: str = "web01") -> str:
    """Return the six letters that xl list shows, "" if the domain is not listed."""
    found = re.search(rf"(?m)^{name} .* ([a-zA-Z-]{{6}}) +[0-9.]+$", box.xl("list"))
    return found[1] if found else ""


def test_no_two_of_these_tests_run_at_once(request: pytest.FixtureRequest) -> None:
    """Guests of the same name would be taken for one another's: xdist has to have seen the group."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@sandbox")


# --- the guest


@pytest.mark.parametrize(
    "written,held,torn",
    [
        (0, (6, 6), ""), (0, (7, 6), ""), (1, (7, 6), ""), (1, (7, 7), ""), (2, (7, 7), ""),
        (0, (6, 7), "xvdb holds 7"), (0, (5, 6), "xvda holds 5"), (1, (6, 6), "xvda holds 6"),
        (2, (7, 6), "xvdb holds 6"), (2, (8, 7), "xvda holds 8"), (2, (None, 7), ""), (2, (None, 6), "xvdb holds 6"),
    ],
)  # fmt: skip
def test_memory_and_disks_are_of_one_instant_or_not(written: int, held: tuple[int | None, ...], torn: str) -> None:
    instant = Instant(Mark(7, written, 2, 0, 0), dict(zip(("xvda", "xvdb"), held, strict=True)))
    assert instant.tear.startswith(torn) and bool(instant.tear) == bool(torn)


def disk(last: int, **other: int) -> bytes:
    """Return the disk of a guest that has counted to `last`, with other numbers in the ring at the places p0, p1 ..."""
    content = bytearray(guest.LEAST)

    def put(sector: int, value: int) -> None:
        content[sector * 512 : sector * 512 + 8] = value.to_bytes(4, "little") + guest.MAGIC.to_bytes(4, "little")

    for value in range(1, last + 1):
        put(guest.FIRST + value % guest.RING, value)
    for place, value in other.items():
        put(guest.FIRST + int(place[1:]), value)
    put(1, last)
    return bytes(content)


@pytest.mark.parametrize("last", [0, 1, 5, 1023, 1024, 1025, 3000])
def test_a_disk_that_lost_nothing_is_whole(last: int) -> None:
    assert guest.damage(disk(last)) == ""


def test_a_disk_that_lost_a_write_or_holds_one_of_a_later_time_is_not_whole() -> None:
    assert guest.damage(disk(5, p6=6)) == ""  # the write in flight
    assert "where 3 should be the ring holds 0" in guest.damage(disk(5, p3=0))
    assert "where 0 should be the ring holds 7" in guest.damage(disk(5, p7=7))
    assert "where 978 should be the ring holds 2002" in guest.damage(disk(2000, p978=2002))


def test_a_guest_counts_in_its_memory_and_on_every_disk(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2", "xvdb": "raw", "xvdc": "job"})
    box.runs_on("web01", 5)
    seen = box.instant("web01")
    assert seen.tear == "" and list(seen.disks) == ["xvda", "xvdb", "xvdc"]
    assert seen.mark.counter > 5 and seen.mark.failures == 0
    assert box.lasting("web01") == ""
    box.xl("destroy", "web01")
    assert box.hurt() == ""


def test_a_guest_that_is_started_again_goes_on_from_its_disks(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    box.runs_on("web01", 5)
    before = box.mark("web01").counter
    box.xl("destroy", "web01")
    box.xl("create", str(box.root / "web01.cfg"))
    box.runs_on("web01")
    assert box.domain("web01").domid == 2
    assert box.mark("web01").counter >= before
    assert box.lasting("web01") == ""


# --- save, restore


def test_save_with_p_leaves_the_guest_still_and_a_whole_image(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2", "xvdb": "raw"})
    image = box.root / "image"
    said = box.xl("save", "-p", "--", "1", str(image))
    assert re.fullmatch(rf"Saving to {image} new xl format \(info 0x3/0x0/[0-9]+\)\n", said)
    assert state(box) == "--p---"
    held = box.instant("web01")
    assert held.tear == ""
    time.sleep(0.2)  # three ticks of the timer
    assert box.instant("web01") == held
    with image.open("rb") as file:
        assert walk(file) == image.stat().st_size
    assert box.xl("unpause", "--", "1") == ""
    assert state(box) == "-b----"
    box.runs_on("web01")
    assert box.mark("web01").counter > held.mark.counter


def test_an_image_that_is_cut_off_is_not_whole(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    image = box.root / "image"
    box.xl("save", "-p", "1", str(image))
    os.truncate(image, image.stat().st_size - 8)
    with image.open("rb") as file, pytest.raises(BrokenImage):
        walk(file)
    box.xl("destroy", "1")
    assert "Savefile truncated." in box.xl("restore", str(image), fails=1)
    assert state(box) == "" and not box.processes()


def test_restore_brings_back_the_very_instant_under_the_next_number(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2", "xvdb": "raw", "xvdc": "job"})
    box.runs_on("web01", 3)
    image = str(box.root / "image")
    box.xl("save", "-p", "1", image)
    held = box.instant("web01")
    box.xl("destroy", "1")
    said = box.xl("restore", "-p", image)
    assert said.startswith(f"Loading new save file {image} (new xl fmt info 0x3/0x0/")
    assert said.endswith(" Savefile contains xl domain config in JSON format\nParsing config from <saved>\n")
    assert state(box) == "--p---" and box.domain("web01").domid == 2
    assert box.instant("web01") == held
    box.xl("unpause", "2")
    box.runs_on("web01", 3)
    assert box.instant("web01").tear == "" and box.lasting("web01") == ""


def test_a_plain_save_ends_the_domain_and_save_with_c_lets_it_run_on(box: Sandbox) -> None:
    there = box.create("web01", {"xvda": "qcow2"})
    box.xl("save", "-c", "web01", str(box.root / "one"))
    box.runs_on("web01")
    box.xl("save", "web01", str(box.root / "two"))
    assert state(box) == "" and not domains.alive(there.device_model)
    assert list((box.root / "run").iterdir()) == []
    box.xl("restore", str(box.root / "two"))
    box.runs_on("web01")


def test_images_are_active_while_the_guest_is_held_and_qmp_snapshots_them(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    box.xl("save", "-p", "1", str(box.root / "image"))
    with qemu.Monitor(box.root / "run" / "qmp-libxenstat-1") as monitor:
        monitor("blockdev-snapshot-internal-sync", device="xvda-qcow2", name="s1")
    held = box.instant("web01").disks["xvda"]
    box.xl("unpause", "1")
    box.runs_on("web01", 3)
    box.xl("destroy", "1")
    path = box.srv / "web01-xvda.qcow2"
    assert guest.counter(box.content(path, tag="s1")[512:]) == held
    assert guest.counter(box.content(path)[512:]) > (held or 0)
    assert box.hurt() == ""


# --- what xl does wrong, as the real one does


def test_a_save_that_fails_truncates_the_file_and_the_guest_runs_on(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    said = box.xl("save", "-p", "1", "/dev/full", fails=1)
    assert said.endswith("Failed to save domain, resuming domain\n")
    box.runs_on("web01")
    image = box.root / "image"
    image.write_bytes(b"precious" * 10000)
    box.xl("pause", "1")
    said = box.xl("save", "-p", "1", str(image), fails=1)
    assert "guest didn't acknowledge suspend, cancelling request" in said
    assert image.read_bytes().startswith(b"Xen saved domain, xl format") and image.stat().st_size < 80000
    assert state(box) == "--p---"


def test_unpause_and_pause_exit_0_whatever_happens(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    assert "Unpausing domain: Invalid argument" in box.xl("unpause", "1")
    assert "No such process" in box.xl("unpause", "4242")
    box.xl("pause", "1")
    assert "Pausing domain: Invalid argument" in box.xl("pause", "1")
    there = box.domain("web01").device_model
    os.kill(there[0], signal.SIGKILL)
    assert "libxl: error" in box.xl("unpause", "1")
    assert state(box) == "--p---"


def test_images_are_open_without_locks(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    done = subprocess.run(["qemu-img", "snapshot", "-c", "oops", str(box.srv / "web01-xvda.qcow2")], check=False)
    assert done.returncode == 0


def test_an_xl_that_is_killed_while_it_saves_leaves_the_guest_suspended(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    box.tell(save_rate=1000)
    image = box.root / "image"
    argv = [str(box.root / "bin" / "xl"), "save", "-p", "1", str(image)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        while state(box) != "-b-ss-":
            assert process.poll() is None
        process.kill()
    assert "Invalid argument" in box.xl("unpause", "1")
    assert state(box) == "-b-ss-"
    box.tell(save_rate=0)
    assert "command not implemented" in box.xl("resume", "1", fails=1)  # not before 4.20
    box.xl("save", "-c", "1", str(image))
    box.runs_on("web01")


def test_a_name_that_is_taken_costs_a_number_and_harms_nobody(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    box.xl("save", "-c", "1", str(box.root / "image"))
    for command in (("create", str(box.root / "web01.cfg")), ("restore", str(box.root / "image"))):
        said = box.xl(*command, fails=3 if command[0] == "create" else 1)
        assert 'Domain with name "web01" already exists.' in said
    box.runs_on("web01")
    box.xl("destroy", "1")
    box.xl("restore", str(box.root / "image"))
    assert box.domain("web01").domid == 4


def test_a_domain_whose_image_is_gone_does_not_start_and_leaves_nothing(box: Sandbox) -> None:
    file = box.configure("web01", {"xvda": "qcow2"})
    (box.srv / "web01-xvda.qcow2").unlink()
    said = box.xl("create", str(file), fails=3)
    assert "No such file or directory" in said and "device model did not start" in said
    assert state(box) == "" and list((box.root / "domains").iterdir()) == []


def shape(text: str) -> str:
    """Return what xl said without numbers, UUIDs and places in Xen's source."""
    return re.sub(r"libxl_[a-z]+\.c:[0-9]+:|[0-9]+", "#", re.sub(r"\b([0-9a-f]+-){4}[0-9a-f]+\b", "UUID", text)).strip()


@pytest.mark.parametrize(
    "words",
    [
        "list -v -- missing", "list -v -- 4242", "domid -- missing", "unpause -- 4242", "destroy -- 5",
        "destroy -- web01", "restore -- /srv/vm/missing", "unpause --", "save -x -- 1 f", "unpauze -- 1",
    ],
)  # fmt: skip
def test_xl_fails_with_the_words_and_the_status_of_a_dom0(box: Sandbox, words: str) -> None:
    argv = tuple(words.split())
    real = {(shape(ran.printed), ran.status) for ran in transcript() if ran.argv == ("xl", *argv)}
    done = subprocess.run([str(box.root / "bin" / "xl"), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)  # fmt: skip
    assert (shape(done.stdout), done.returncode) in real


def test_xl_says_of_a_domain_that_works_what_it_said_in_a_dom0(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    file = str(box.root / "present")
    said = {
        ("list",): box.xl("list"),
        ("list", "-v"): box.xl("list", "-v"),
        ("domid", "--", "web01"): box.xl("domid", "--", "web01"),
        ("domname", "--", "4"): box.xl("domname", "--", "1"),
        ("save", "--", "4", "/srv/vm/present"): box.xl("save", "--", "1", file),
        ("restore", "--", "/srv/vm/present"): box.xl("restore", "--", file),
    }
    for argv, text in said.items():
        real = {running(shape(ran.printed)) for ran in transcript() if ran.argv == ("xl", *argv) and ran.status == 0}
        assert running(shape(text.replace(file, "/srv/vm/present"))) in real, argv


def running(text: str) -> str:
    """Return a list of domains without what is of the moment: blanks, and whether a guest runs or is blocked."""
    return re.sub(" +", " ", re.sub(r"\b[rb-]+-{4}\b|[r-][b-]----", "STATE", text))


def test_lists_prove_the_states_that_plans_ask_for(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})

    def proves(pattern: str) -> bool:
        return bool(re.search(listed("web01", 1, UUID, pattern).prints, box.xl("list", "-v"), re.MULTILINE))

    assert proves(RUNS) and proves(LET_GO) and not proves(HELD)
    box.xl("pause", "1")
    assert proves(HELD) and not proves(RUNS)


def test_a_guest_powers_off_when_it_is_asked_to(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    box.xl("shutdown", "-w", "web01")
    assert state(box) == "---s--"
    assert "guest didn't acknowledge suspend" in box.xl("save", "-p", "1", str(box.root / "image"), fails=1)


def test_a_domain_whose_qemu_was_killed_is_a_domain_still(box: Sandbox) -> None:
    there = box.create("web01", {"xvda": "qcow2"})
    os.kill(there.device_model[0], signal.SIGKILL)
    while domains.alive(there.device_model):
        time.sleep(0.01)
    assert state(box) == "-b----"
    assert "Failed to save domain" in box.xl("save", "-p", "1", str(box.root / "image"), fails=1)
    box.xl("destroy", "1")
    assert state(box) == ""


# --- monitors


def test_a_monitor_serves_one_client_and_holding_the_second_one_does_not_hold_up_xl(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2"})
    path = box.root / "run" / "qmp-libxenstat-1"
    with qemu.Monitor(path) as first:
        second = socket.socket(socket.AF_UNIX)
        second.connect(str(path))
        second.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.recv(1)
        box.xl("save", "-p", "1", str(box.root / "image"))
        assert first.status() == "paused"
    second.settimeout(10)
    assert b"QMP" in second.recv(100)
    second.close()


def test_monitors_know_a_disk_by_its_vdev_also_on_an_overlay(box: Sandbox) -> None:
    box.create("web01", {"xvda": "qcow2", "xvdb": "raw"})
    with qemu.Monitor(box.root / "run" / "qmp-libxl-1") as monitor:
        first, second = (drive["qdev"] for drive in monitor("query-block"))
        assert monitor("qom-get", path=first, property="vdev") == "xvda0"
        with pytest.raises(qemu.Trouble):  # no disk of QEMU's on a real host
            monitor("qom-get", path=second, property="vdev")


def test_a_domain_without_a_disk_of_qemus_has_no_monitor(box: Sandbox) -> None:
    box.create("web01", {"xvda": "raw"})
    assert list((box.root / "run").iterdir()) == []
    (seen,) = box.facts("web01").domains
    assert seen.qemu is None and seen.disks[0].backend == "phy"
    assert box.instant("web01").tear == ""


# --- the daemon that xl leaves behind


@pytest.mark.parametrize("xen,held,stays", [("4.17.7", False, False), ("4.17.7", True, True), ("4.20.2", False, True)])
def test_before_xen_4_20_the_daemon_ends_when_it_sees_a_suspension(xen: str, held: bool, stays: bool) -> None:
    with Sandbox(xen) as box:
        daemon = box.create("web01", {"xvda": "qcow2"}).monitor
        stat = Path("/proc", str(daemon[0]), "stat")
        assert stat.read_text().startswith(f"{daemon[0]} (xl) S ")
        if held:
            os.kill(daemon[0], signal.SIGSTOP)
        box.xl("save", "-p", "1", str(box.root / "image"))
        if held:
            os.kill(daemon[0], signal.SIGCONT)
        box.xl("unpause", "1")
        assert bool(domains.alive(daemon)) == stays
        before = box.mark("web01").counter
        box.xl("reboot", "web01")
        assert state(box) == ("-b----" if stays else "---sr-")
        if stays:
            box.runs_on("web01")
            assert box.domain("web01").domid == 2 and box.mark("web01").counter >= before


# --- what domsnap sees of it, and what is left of it


def test_domsnap_sees_the_domain(box: Sandbox) -> None:
    there = box.create("web01", {"xvda": "qcow2", "xvdb": "raw", "xvdc": "job"})
    seen = box.facts("web01")
    (domain,) = seen.domains
    assert (domain.name, domain.domid, domain.uuid, domain.type, domain.state) == ("web01", 1, UUID, "pvh", "running")
    assert domain.qemu and domain.xl_monitor
    assert (domain.qemu.process.pid, domain.qemu.process.started) == there.device_model
    assert domain.qemu.monitor == str(box.root / "run" / "qmp-libxenstat-1")
    assert [(d.vdev, d.backend, [n.name for n in d.nodes]) for d in domain.disks] == [
        ("xvda", "qdisk", ["xvda-qcow2"]), ("xvdb", "phy", []), ("xvdc", "qdisk", ["xvdc-raw"]),
    ]  # fmt: skip
    assert {image.path for image in seen.images} >= {disk.path for disk in domain.disks}
    assert seen.host.xen == "4.17.7"


def test_nothing_is_left_when_a_test_fails() -> None:
    seen: list[Domain] = []

    def fail() -> None:
        with Sandbox() as box:
            seen.append(box.create("web01", {"xvda": "qcow2"}))
            os.kill(seen[0].device_model[0], signal.SIGSTOP)  # nor what does not listen any more
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not seen[0].root.exists()
    assert not domains.alive(seen[0].device_model) and not domains.alive(seen[0].monitor)
