"""Recovery at boot, after a power cut at any call: undone or finished by files and volumes alone, no domain started."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from executor.live import Live
from executor.perform import AfterEnd
from executor.programs import Watch
from executor.signals import Signals
from planner.commands import Qmp
from planner.plan import Verb
from tests.conftest import Survived
from tests.executor.machine import Machine, Outcome
from tests.executor.test_agreement import DISKS, VERBS, Disks, calls
from tests.executor.test_script_host import planned


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m", "qrvtl")


def files(machine: Machine) -> object:
    return machine.state()[0]  # type: ignore[index]


def boot(machine: Machine, plan: object, fault_at: int = 0) -> Outcome:
    return machine.run(plan, "boot", shell="", dead=True, fault="killed", fault_at=fault_at)  # type: ignore[arg-type]


def sweep(machine: Machine, verb: Verb, disks: Disks, first: int, stride: int) -> int:
    points = list(calls(machine, verb, disks))[first::stride]
    assert machine.run(planned(machine, verb, *disks), shell="").status == 0
    wanted = files(machine)
    store = machine.root / "store/web01"
    for at in points:
        plan = planned(machine, verb, *disks)
        before = files(machine)
        machine.run(plan, "alone", shell="", fault="killed", fault_call=at)
        machine.lose_power(plan)
        done = boot(machine, plan, 2)  # a second power cut
        if done.status == -9:
            machine.lose_power(plan)
            done = boot(machine, plan)
        assert done.guest == "gone", (at, done.said)
        where = (at, done.said)
        if done.status == 0:
            assert files(machine) in (before, wanted), where
            assert files(machine) == wanted or "everything was undone" in done.said or not done.said, where
        else:
            assert done.status == 6, where
            named = re.search(r"a spec of web01/(\S+) with `domsnap apply --delete`", done.said)
            assert named, where
            record = store / named[1] / "record.json"
            assert not record.exists() or '"state": "deleting"' in record.read_text(), where
            if verb == "revert":  # what the domain goes on from is as sound as ever
                assert (store / "current").read_text() == "before-upgrade\n", where
                assert '"state": "complete"' in (store / "before-upgrade/record.json").read_text(), where
        assert boot(machine, plan).said == "", where
    return len(points)


@VERBS
def test_a_power_cut_at_some_call_is_settled(machine: Machine, verb: Verb) -> None:
    sweep(machine, verb, (), 9, 45)


@pytest.mark.slow
@VERBS
@DISKS
@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.long)])
def test_a_power_cut_at_many_calls_is_settled(
    machine: Machine, verb: Verb, disks: Disks, stride: int, survived: Survived
) -> None:
    tried = sweep(machine, verb, disks, 0, stride)
    survived(f"{verb}: the power fails at a call, and again during recovery", tried, "settled at boot, or by --delete")


def test_a_domain_that_runs_again_is_let_alone(machine: Machine) -> None:
    (save,) = (call for call in calls(machine, "create", ()) if call[0].startswith("xl save"))
    plan = planned(machine)
    machine.run(plan, "alone", shell="", fault="killed", fault_call=save)
    machine.lose_power(plan)
    before = files(machine)
    (machine.model / "domain").write_text("3 running\n")
    done = boot(machine, plan)
    assert (done.status, files(machine)) == (6, before)
    assert "it runs already, as domain 3, and nothing is done" in done.said
    refused = machine.run(plan, "abort", shell="", dead=True)
    assert (refused.status, files(machine)) == (1, before)
    assert "web01 was domain 7 then, and is domain 3 now" in refused.said


def test_a_plan_of_this_boot_is_left_to_resume_and_abort(machine: Machine) -> None:
    (save,) = (call for call in calls(machine, "create", ()) if call[0].startswith("xl save"))
    plan = planned(machine)
    machine.run(plan, "alone", shell="", fault="killed", fault_call=save)
    before = machine.state()
    done = machine.run(plan, "boot", shell="")
    assert (done.status, done.state) == (6, before)
    assert "the machine has not rebooted since" in done.said


def test_what_a_guest_wrote_to_an_overlay_is_not_lost_when_that_is_undone(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.qcow2", tmp_path / "overlay"
    for words in (
        ("qemu-img", "create", "-q", "-f", "qcow2", base, "1M"),
        ("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay),
        ("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 64k 64k", overlay),
    ):
        subprocess.run(words, check=True)
    argv = ("qemu-img", "commit", "-q", "-f", "qcow2", "--", str(overlay))
    performer = AfterEnd(Signals(), Live("", Watch()))
    performer.do(Qmp("/nowhere", "block-commit", when=("query-block", "x"), offline=argv))
    performer.close()
    read = subprocess.run(
        ("qemu-io", "-f", "qcow2", "-c", "read -P 7 64k 64k", base), check=True, capture_output=True, text=True
    )
    assert "verification failed" not in read.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_takes_the_unit() -> None:
    unit = Path(__file__).parents[2] / "docs/domsnap-recover.service"
    done = subprocess.run(("systemd-analyze", "verify", unit), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
