"""The command line as a process: pipes, signals, terminals, closed streams, completion, the manual page."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.plan import document
from domsnap.saving import _publish

ROOT = Path(__file__).resolve().parents[2]
DOMSNAP = [sys.executable, "-m", "domsnap"]
ONE = "version: 1\ndomain: d00000\nsnapshot: one\n"
PLAN = [*DOMSNAP, "plan", "one.yaml", "--facts", "facts.json"]
SCRIPT = [*DOMSNAP, "script", "one.yaml", "--facts", "facts.json"]


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.yaml").write_text(ONE)
    (tmp_path / "facts.json").write_text(json.dumps(document(1)))
    return tmp_path


def shell(line: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $D is domsnap."""
    env = environment(D=" ".join(DOMSNAP), **more)
    return subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "line",
    ["$D schema snapshot | head -c 1", "$D plan one.yaml --facts facts.json --json | head -c 1", "$D man | head -c 1"],
)
def test_a_reader_that_leaves_early_is_no_error(folder: Path, line: str) -> None:
    done = shell(f"{line}; exit ${{PIPESTATUS[0]}}", folder)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_a_reader_that_is_gone_ends_the_run_as_sigpipe_would(folder: Path) -> None:
    done = shell("{ sleep 0.5; $D schema plan; echo $? >status; } | true", folder)
    assert done.stderr == ""
    assert (folder / "status").read_text() == "141\n"


@pytest.mark.parametrize("command", ["schema snapshot", "man", "validate one.yaml", "plan one.yaml --facts facts.json"])
def test_a_full_disk_behind_standard_output_is_said(folder: Path, command: str) -> None:
    done = shell(f"$D {command} >/dev/full", folder)
    assert (done.returncode, done.stderr) == (1, "domsnap: cannot write to standard output: No space left on device\n")


def test_a_closed_standard_output_is_said(folder: Path) -> None:
    done = shell("$D validate one.yaml >&-", folder)
    assert (done.returncode, done.stderr) == (1, "domsnap: standard output is closed\n")


def test_a_closed_standard_input_is_said(folder: Path) -> None:
    done = shell("$D validate - <&-", folder)
    assert done.returncode == 1
    assert "standard input is closed" in done.stderr


def test_errors_into_a_closed_standard_error_do_not_land_elsewhere(folder: Path) -> None:
    done = shell("$D validate missing.yaml 2>&-; echo $?", folder)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_plan_is_saved_though_all_streams_are_closed(folder: Path) -> None:
    done = shell("$D plan one.yaml --facts facts.json -o plan.json <&- >&- 2>&-; echo $?", folder)
    assert done.stdout == "1\n"
    assert json.loads((folder / "plan.json").read_text())["snapshot"] == "one"


def test_no_file_of_ours_takes_the_number_of_a_closed_stream(folder: Path) -> None:
    code = "import os; from domsnap.door import run; run([]); open('fds', 'w').write(str([*map(os.readlink, L)]))"
    listed = "L = [f'/proc/self/fd/{n}' for n in range(3)]"
    line = f'{sys.executable} -c "{listed}\n{code}" <&- >&- 2>&-'
    subprocess.run(["bash", "-c", line], cwd=folder, env=environment(), check=True)
    assert (folder / "fds").read_text() == "['/dev/null', '/dev/null', '/dev/null']"


def test_ctrl_c_is_one_line_and_130(folder: Path) -> None:
    running = subprocess.Popen(
        [*DOMSNAP, "validate", "one.yaml", "-"], cwd=folder, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout is not None
    running.stdout.readline()  # the first file is done: it waits for standard input
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert (running.returncode, out, err) == (130, "", "domsnap: interrupted\n")


def on_terminal(argv: list[str], folder: Path, env: Mapping[str, str]) -> str:
    """Return what a command prints on a terminal."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(argv, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    told = b""
    try:
        while part := os.read(ours, 65536):
            told += part
    except OSError:  # the kernel's word for the other end being closed
        pass
    os.close(ours)
    running.wait()
    return told.decode()


def test_colours_go_to_terminals_unless_no_color_or_a_dumb_terminal_forbid_it(folder: Path) -> None:
    assert "\x1b[" in on_terminal(PLAN, folder, environment(TERM="xterm"))
    assert "\x1b" not in on_terminal(PLAN, folder, environment(TERM="xterm", NO_COLOR="1"))
    assert "\x1b" not in on_terminal(PLAN, folder, environment(TERM="dumb"))
    assert "\x1b" not in subprocess.run(
        PLAN, cwd=folder, env=environment(TERM="xterm"), capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def test_errors_are_coloured_on_terminals_only(folder: Path) -> None:
    wrong = [*DOMSNAP, "validate", "missing.yaml"]
    assert "\x1b" not in on_terminal(wrong, folder, environment(TERM="xterm", NO_COLOR="1"))
    done = subprocess.run(wrong, cwd=folder, env=environment(TERM="xterm"), capture_output=True, text=True, check=False)
    assert "\x1b" not in done.stderr


def test_a_terminal_without_unicode_gets_what_it_can_show(folder: Path) -> None:
    (folder / "one.yaml").write_text(f"{ONE}description: Größe 📷\n")
    env = environment(PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    done = subprocess.run(PLAN, cwd=folder, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


def test_the_script_has_the_same_bytes_whatever_the_locale(folder: Path) -> None:
    (folder / "one.yaml").write_text(f"{ONE}description: Größe 📷\n", encoding="utf-8")
    env = environment(PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    plain = subprocess.run(SCRIPT, cwd=folder, env=env, capture_output=True, check=True)
    assert plain.stdout == subprocess.run(SCRIPT, cwd=folder, env=environment(), capture_output=True, check=True).stdout


def test_the_script_is_written_for_its_owner_alone(folder: Path) -> None:
    done = subprocess.run(
        [*SCRIPT, "-o", "one.sh"], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "one.sh" in done.stderr
    assert (folder / "one.sh").stat().st_mode & 0o7777 == 0o700
    assert (folder / "one.sh").read_bytes() == subprocess.run(
        SCRIPT, cwd=folder, env=environment(), capture_output=True, check=True
    ).stdout  # fmt: skip


@pytest.mark.parametrize("command", [PLAN, SCRIPT], ids=["plan", "script"])
def test_our_own_files_are_written_anew(folder: Path, command: list[str]) -> None:
    for _ in range(2):
        subprocess.run([*command, "-o", "out"], cwd=folder, env=environment(), capture_output=True, check=True)
    assert sorted(path.name for path in folder.iterdir()) == ["facts.json", "one.yaml", "out"]


@pytest.mark.parametrize("command", [PLAN, SCRIPT], ids=["plan", "script"])
@pytest.mark.parametrize(
    "there", ["one.yaml", "facts.json", "notes", "run.sh", "folder", "pipe", "link", "missing/plan", "/dev/null"]
)
def test_nothing_else_is_written_over(folder: Path, command: list[str], there: str) -> None:
    (folder / "notes").write_text("mine\n")
    (folder / "run.sh").write_text("#!/bin/sh\n# calls domsnap\ndomsnap plan one.yaml\n")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("notes")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = subprocess.run(
        [*command, "-o", there], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert there in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_what_came_there_in_the_meantime_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "passing").write_text("ours")
    (tmp_path / "plan.json").write_text("theirs")
    with pytest.raises(FileExistsError):
        _publish(str(tmp_path / "passing"), str(tmp_path / "plan.json"), replace=False)
    assert (tmp_path / "plan.json").read_text() == "theirs"


def test_a_full_disk_leaves_no_half_of_a_file(folder: Path) -> None:
    (folder / "small").mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", folder / "small"], check=True)
    try:
        done = subprocess.run(
            [*PLAN, "-o", "small/plan.json"], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "small/plan.json: No space left on device" in done.stderr
        assert list((folder / "small").iterdir()) == []
    finally:
        subprocess.run(["umount", folder / "small"], check=True)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_the_shell_one_is_in(folder: Path, name: str) -> None:
    there = folder / name
    shutil.copy("/bin/dash", there)  # the shell is recognised by the name of the parent process
    line = f"{' '.join(DOMSNAP)} --show-completion; true"
    done = subprocess.run(
        [there, "-c", line], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    assert "_DOMSNAP_COMPLETE" in done.stdout
    assert done.stderr == ""


def test_bash_completes_commands_options_and_names(folder: Path) -> None:
    def completed(words: str) -> list[str]:
        env = environment(
            _DOMSNAP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
        )
        done = subprocess.run(DOMSNAP, cwd=folder, env=env, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert completed("domsnap v") == ["validate", "verify"]
    assert "--offline" in completed("domsnap plan --o")
    assert completed("domsnap schema s") == ["snapshot"]


def test_the_manual_page_is_clean_roff_and_has_every_option(folder: Path) -> None:
    page = subprocess.run([*DOMSNAP, "man"], cwd=folder, env=environment(), capture_output=True, check=True).stdout
    groff = ["groff", "-man", "-Tutf8", "-ww", "-z"]
    if shutil.which("groff"):
        assert subprocess.run(groff, input=page, capture_output=True, check=True).stderr == b""
    man = subprocess.run(
        ["man", "-l", "-"], input=page, env=environment(MANWIDTH="78"), capture_output=True, check=True
    )
    text = man.stdout.decode()
    assert man.stderr == b""
    for word in (
        "--detailed-exitcode",
        "--document N|NAME",
        "domsnap script",
        "128+n",
        "NO_COLOR",
        "--install-completion",
    ):
        assert word in text, word


def test_the_manual_page_and_help_are_made_from_one_source(folder: Path) -> None:
    text = subprocess.run(
        [*DOMSNAP, "man"], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    ).stdout
    flat = " ".join(text.replace("\\-", "-").replace("\\(ga", "`").replace("\\(aq", "'").split())
    for command in ("validate", "schema", "plan", "script", "man"):
        argv = [*DOMSNAP, command, "--help"]
        told = subprocess.run(argv, cwd=folder, env=environment(), capture_output=True, text=True, check=True).stdout
        options = [word.rstrip(",") for word in told.split() if word.startswith("--")]
        assert options
        assert all(option in flat for option in options)
