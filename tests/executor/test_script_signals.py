"""What a terminal can do to a generated script while the guest stands still, and that it is told about all of it."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from planner.compile import compile_plan
from planner.plan import Plan
from schema import spec as language
from tests.executor.machine import Machine
from tests.executor.test_script_host import planned as revert
from tests.executor.test_stream import image

OWN_GROUP = "setsid -w dash"  # a process group, as an interactive shell gives each of its jobs


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m", "qr")


def planned(machine: Machine) -> Plan:
    machine.put()
    return compile_plan("create", machine.spec(language.Disk("xvda", "external")), machine.facts())


def number_of(machine: Machine, words: str, nth: int = 1) -> int:
    calls = machine.run(planned(machine)).trace
    return [number for number, each in enumerate(calls, 1) if each.startswith(words)][nth - 1]


def press(machine: Machine, program: str, key: str, when: str) -> None:
    """Let a program send the signal of a key to the script's process group, once, at the call that matches `when`."""
    path = machine.root / "bin" / program
    real = path.resolve() if path.exists() else Path("/usr/bin") / program
    aside = machine.root / "real" / program
    aside.parent.mkdir(exist_ok=True)
    aside.symlink_to(real)
    path.unlink(missing_ok=True)
    path.write_text(
        f'#!/bin/sh\ncase "$* $(tail -n 1 "$HOST/trace")" in\n{when})\n  [ -e "$HOST/pressed" ] || {{\n'
        f'    : >"$HOST/pressed"\n    kill -s {key} -- "-$(cat "$HOST/pid")"\n    /bin/sleep 0.5\n  }} ;;\nesac\n'
        f'exec {aside} "$@"\n'
    )
    path.chmod(0o755)


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "bash --posix"])
@pytest.mark.parametrize("where", ["xl list -v", "lvs", "cat /proc"])
def test_an_interruption_is_told_of_also_while_a_programs_output_is_put_aside(
    machine: Machine, where: str, shell: str
) -> None:
    if where == "lvs":
        machine = Machine(machine.root, "qv")
    number = number_of(machine, where, nth=2 if where == "xl list -v" else 1)
    done = machine.run(planned(machine), fault_at=number, fault="signal", shell=shell)
    assert done.status == 143
    assert "interrupted by signal 15 during: " in done.said
    assert ("everything was undone" in done.said) == (where != "lvs")


def test_what_is_left_by_hand_is_told_of_also_while_a_programs_output_is_put_aside(machine: Machine) -> None:
    number, remove = number_of(machine, "xl list -v", nth=2), f"rmdir -- {machine.root}/store/web01/before-upgrade"
    plan = planned(machine)
    (machine.root / "bin/rmdir").unlink()
    (machine.root / "bin/rmdir").symlink_to("/bin/false")
    done = machine.run(plan, fault_at=number, fault="signal")
    assert done.status == 6
    assert any(line.startswith("    ") and line.endswith(remove) for line in done.said.splitlines())


@pytest.mark.parametrize("key", ["INT", "HUP", "TERM"])
def test_ctrl_c_during_the_freeze_reaches_the_script_alone_and_the_guest_goes_on(machine: Machine, key: str) -> None:
    plan = planned(machine)
    before = machine.state()
    press(machine, "xl", key, "save*")
    done = machine.run(plan, shell=OWN_GROUP)
    assert done.status == 128 + {"HUP": 1, "INT": 2, "TERM": 15}[key], done.said
    assert (done.guest, done.monitor, done.state) == ("running", "S", before)


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "bash --posix"])
@pytest.mark.parametrize("key", ["INT", "QUIT"])
def test_ctrl_c_in_a_pipeline_waits_for_its_programs_too(machine: Machine, key: str, shell: str) -> None:
    machine.compress = True
    plan = revert(machine, "revert")
    before = machine.state()
    press(machine, "xl", key, "restore*")
    done = machine.run(plan, shell=f"setsid -w {shell}")
    assert done.guest == "running", done.said
    if key == "QUIT":
        assert done.status == 0, done.said
    else:
        assert (done.status, done.monitor, done.state) == (130, "S", before), done.said
        back = done.trace.index("xl restore -- /dev/stdin")
        calls = [each for each in done.trace[:back] if not each.startswith("cat ")]  # `press` does that
        assert calls[-1].startswith("zstd -d") and "xl destroy -- web01" in done.trace[back:], done.trace


def test_ctrl_backslash_does_not_end_the_script_while_the_guest_stands_still(machine: Machine) -> None:
    plan = planned(machine)
    press(machine, "xl", "QUIT", "save*")
    done = machine.run(plan, shell=OWN_GROUP)
    assert (done.status, done.guest, done.monitor) == (0, "running", "S"), done.said


def test_ctrl_z_does_not_hold_the_script_up_while_the_guest_stands_still(machine: Machine) -> None:
    plan = planned(machine)
    press(machine, "xl", "TSTP", "save*")
    terminal = machine.root / "terminal"
    terminal.write_text('#!/bin/bash\nset -m\ndash "$@" &\necho $! >"$HOST/pid"\nwait $!\nstatus=$?\n'
                        'kill -s KILL $! 2>/dev/null\nexit $status\n')  # fmt: skip
    terminal.chmod(0o755)
    done = machine.run(plan, shell=str(terminal))
    assert (done.status, done.guest, done.monitor) == (0, "running", "S"), done.said


def test_ctrl_c_between_the_commit_and_the_guest_does_not_take_the_scripts_own_tools_away(machine: Machine) -> None:
    plan = planned(machine)
    press(machine, "grep", "INT", "*'xl list -v'")
    text = (machine.root / "bin/grep").read_text().replace('"$* $(', '"$(test -e "$HOST/let-go" && echo y) $* $(')
    (machine.root / "bin/grep").write_text(text.replace("*'xl list -v')", "y*'xl list -v')"))
    (machine.root / "bin/xl").unlink()
    (machine.root / "bin/xl").write_text(
        f'#!/bin/sh\n[ "$1" != unpause ] || : >"$HOST/let-go"\nexec {machine.root}/real/xl "$@"\n'
    )
    (machine.root / "bin/xl").chmod(0o755)
    (machine.root / "real/xl").symlink_to(Path(__file__).parent / "fakes/host")
    done = machine.run(plan, shell=OWN_GROUP)
    assert (machine.model / "pressed").exists()
    assert (done.status, done.guest, done.monitor) == (6, "running", "S"), done.said
    assert "interrupted by signal 2" in done.said and "not as expected" not in done.said


def test_a_full_or_missing_folder_for_temporary_files_does_not_matter(machine: Machine) -> None:
    done = machine.run(planned(machine), shell="env TMPDIR=/nonexistent dash")
    assert done.status == 0, done.said
    assert [path.suffix for path in (machine.root / "lock").iterdir()] == [".lock"]


def test_a_stale_plan_is_told_to_be_made_again(machine: Machine) -> None:
    plan = planned(machine)
    (machine.model / "domain").write_text("8 running\n")
    for words in ((), ("--check",)):
        done = machine.run(plan, *words)
        assert done.status == 3
        assert "plan again" in done.said.splitlines()[-1]


def by_hand(machine: Machine, said: str) -> list[int]:
    """Paste what a script has said is left to do, each line when the one before has worked."""
    environment = {"PATH": f"{machine.root}/bin:/usr/bin:/bin", "HOST": str(machine.model), "NAME": "web01"}
    done: list[int] = []
    for line in said.splitlines():
        if line.startswith("    ") and not any(done):
            done.append(subprocess.run(["dash", "-c", line], env=environment, check=False).returncode)
    return done


def test_a_memory_image_that_is_not_whole_cannot_be_published_by_hand(machine: Machine) -> None:
    plan = planned(machine)
    folder = machine.root / "store/web01/before-upgrade"
    (machine.model / "image").write_bytes(image()[:-8])
    done = machine.run(plan)
    assert (done.status, done.guest) == (6, "running")
    assert "it ends inside a record" in done.said
    assert by_hand(machine, done.said) == [1]
    assert not (folder / "memory").exists()

    (folder / "memory.part").write_bytes(image())
    assert set(by_hand(machine, done.said)) == {0}
    assert (folder / "memory").read_bytes() == image()
    assert (folder / "memory.sha256").read_text() == f"{sha256(image()).hexdigest()}  {folder}/memory\n"
    assert (folder / "record.json").exists()
