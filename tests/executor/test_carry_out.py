"""Around a run: the lock, the journal, who may carry out what and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor import journal, lock
from executor.carry_out import trust
from executor.left import unfinished
from planner.plan import Plan
from schema.diagnostic import Refused
from tests.conftest import Survived
from tests.executor.machine import Machine
from tests.executor.test_agreement import calls
from tests.executor.test_script_host import planned

HOLDER = """
import sys, time
from executor import lock
with lock.held(sys.argv[1], "p"):
    print(flush=True)
    time.sleep(60)
"""
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m", "qr")


def path_of(machine: Machine, plan: Plan) -> Path:
    return machine.root / f"store/web01/applied/{plan.id}.jsonl"


def save(machine: Machine) -> tuple[str, int]:
    return next(each for each in calls(machine, "create", ()) if each[0].startswith("xl save"))


def test_a_plan_is_carried_out_once(machine: Machine) -> None:
    plan = planned(machine)
    assert machine.run(plan, shell="").status == 0
    again = machine.run(plan, shell="")
    assert again.status != 0
    assert "FileExistsError" in again.said


def test_a_plan_that_was_undone_can_be_carried_out_again(machine: Machine) -> None:
    at = save(machine)
    plan = planned(machine)
    assert machine.run(plan, shell="", fault="before", fault_call=at).status == 5
    assert machine.run(plan, shell="").status == 0


def test_the_lock_is_the_one_that_a_script_takes(machine: Machine) -> None:
    plan = planned(machine)
    uuid = plan.domains[0].uuid
    environment = {
        **os.environ,
        "DOMSNAP_RUN": str(machine.root / "lock"),
        "PYTHONPATH": ROOT,
    }
    argv = [sys.executable, "-c", HOLDER, uuid]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout and other.stdout.readline()
            for shell in ("", "dash"):
                refused = machine.run(plan, shell=shell)
                assert refused.status == 4
                assert f"locked: process {other.pid} runs plan p since 2" in refused.said
        finally:
            other.kill()
    assert machine.run(plan, shell="").status == 0


def test_programs_do_not_inherit_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMSNAP_RUN", str(tmp_path))
    with lock.held("u", "p"):
        assert lock.holder("u").startswith(f"process {os.getpid()} runs plan p")
        left = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert lock.holder("u") == ""
    finally:
        left.kill()
        left.wait()


def test_a_journal_begins_with_the_plan_and_ends_with_the_status(machine: Machine) -> None:
    plan = planned(machine)
    machine.run(plan, shell="")
    path = path_of(machine, plan)
    past = journal.read(path)
    assert (past.plan, past.status, past.committed) == (plan, 0, True)
    assert past.armed == [step.number for step in plan.steps if step.effect != "check"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(unfinished(str(machine.root / "store"))) == []


def test_a_last_line_that_was_cut_off_counts_for_nothing(machine: Machine) -> None:
    plan = planned(machine)
    machine.run(plan, shell="")
    path = path_of(machine, plan)
    path.write_bytes(path.read_bytes()[:-3])
    assert journal.read(path).status is None
    ((found, _),) = unfinished(str(machine.root / "store"))
    assert found == path


def test_a_journal_of_a_newer_version_is_refused_by_its_number(machine: Machine) -> None:
    plan = planned(machine)
    machine.run(plan, shell="")
    path = path_of(machine, plan)
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(first), "version": 2}) + "\n" + "".join(rest))
    with pytest.raises(ValueError, match="version 2; this domsnap reads 1"):
        journal.read(path)


def test_what_is_unfinished_is_settled_once(machine: Machine) -> None:
    at = save(machine)
    plan = planned(machine)
    machine.run(plan, "alone", shell="", fault="killed", fault_call=at)
    assert machine.run(plan, "abort", shell="").status == 0
    again = machine.run(plan, "abort", shell="")
    assert again.status == 1
    assert "has come to its end" in again.said


@pytest.mark.parametrize("how", ["link", "writable", "writable above", "other"])
def test_a_store_that_others_can_reach_into_is_refused(tmp_path: Path, how: str) -> None:
    store = tmp_path / "a/store"
    store.mkdir(parents=True, mode=0o700)
    trust(store / "web01")
    match how:
        case "link":
            (tmp_path / "l").symlink_to(store)
            os.lchown(tmp_path / "l", 65534, 65534)
            store = tmp_path / "l"
        case "writable":
            store.chmod(0o777)
        case "writable above":
            store.parent.chmod(0o770)
        case "other":
            os.chown(store, 65534, 65534)
    with pytest.raises(Refused) as caught:
        trust(store)
    assert caught.value.diagnostics[0].summary == "the store cannot be trusted"


def test_a_sticky_folder_above_the_store_is_fine(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t").chmod(0o1777)
    (tmp_path / "t/store").mkdir(mode=0o700)
    trust(tmp_path / "t/store")


@pytest.mark.parametrize("shell", ["", "dash"])
def test_a_live_capture_whose_xl_fails_at_once_is_undone_and_its_words_are_shown(machine: Machine, shell: str) -> None:
    machine.live = True
    plan = planned(machine)
    before = machine.state()
    failed = machine.run(plan, shell=shell, fault="before", fault_call=("xl migrate -s  -- 7", 1))
    assert (failed.status, failed.guest, failed.monitor) == (5, "running", "S"), failed.said
    assert "xl: made to fail" in failed.said
    assert failed.state == before


def test_a_journal_that_cannot_grow_undoes_everything_and_the_guest_runs(machine: Machine, survived: Survived) -> None:
    plan = planned(machine)
    machine.run(plan, shell="")
    whole = path_of(machine, plan).stat().st_size
    begin = len(path_of(machine, plan).read_text().splitlines(keepends=True)[0])
    limits = range(begin + 40, whole, 307)
    for limit in limits:
        plan = planned(machine)
        before = machine.state()
        done = machine.run(plan, shell="", largest=limit)
        assert (done.guest, done.monitor) == ("running", "S"), done.said
        assert done.status in (0, 1, 5), done.said
        assert done.status == 0 or (".jsonl: " in done.said and done.state == before), done.said
    survived("the journal cannot grow", len(limits), "undone before the commit, finished without it after")
