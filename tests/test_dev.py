"""./dev on a machine where something is missing: what it installs, what it asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALWAYS = ("cat", "cksum", "dirname", "env", "flock", "git", "grep", "head", "rm", "sh", "sort", "touch", "chmod")

APT = """\
#!/bin/sh
echo "$*" >>"$LOG"
case $1 in
update) touch "$LOG.updated" ;;
install)
    [ -e "$LOG.updated" ] || exit 100
    for word; do
        case $word in
        shellcheck | shfmt) printf '#!/bin/sh\\n' >"${0%/*}/$word" && chmod +x "${0%/*}/$word" ;;
        esac
    done
    ;;
esac
"""

# Enough of a Python to be chosen, and no more: the virtual environment is not made.
PYTHON = """\
#!/bin/sh
case $* in
*sys.executable*) echo "$0" ;;
*ensurepip* | -V) ;;
*) exit 9 ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a folder of programs, to be the whole PATH: no shellcheck, no shfmt. Beside it is a copy of ./dev."""
    shutil.copy(ROOT / "dev", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs, "python3", PYTHON)
    for name in ALWAYS:
        there = shutil.which(name)
        assert there, name
        (programs / name).symlink_to(there)
    return programs


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def dev(machine: Path, user: int) -> subprocess.CompletedProcess[str]:
    program(machine, "id", f"#!/bin/sh\necho {user}\n")
    env = {"PATH": str(machine), "LOG": str(machine.parent / "log")}
    return subprocess.run(["./dev", "check"], cwd=machine.parent, env=env, capture_output=True, text=True, check=False)


def test_a_user_is_given_the_one_line_that_root_must_run(machine: Path) -> None:
    program(machine, "apt-get", APT)
    done = dev(machine, 1000)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "  apt-get install -y --no-install-recommends shellcheck shfmt"
    assert not (machine.parent / "log").exists()


def test_root_fetches_package_lists_only_where_they_are_needed(machine: Path) -> None:
    program(machine, "apt-get", APT)
    done = dev(machine, 0)
    log = (machine.parent / "log").read_text().splitlines()
    assert [line.split()[0] for line in log] == ["install", "update", "install"]
    assert log[0].endswith("shellcheck shfmt")
    assert "installing shellcheck shfmt" in done.stderr


def test_root_installs_nothing_that_is_there(machine: Path) -> None:
    program(machine, "apt-get", APT)
    for name in ("shellcheck", "shfmt"):
        program(machine, name, "#!/bin/sh\n")
    done = dev(machine, 0)
    assert "making .venv with" in done.stderr
    assert not (machine.parent / "log").exists()


def test_without_apt_it_says_what_is_missing(machine: Path) -> None:
    done = dev(machine, 0)
    assert done.returncode == 1
    assert "no apt-get here: shellcheck shfmt" in done.stderr


def test_ci_runs_the_checks_and_all_tests() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    first = lines.index("./dev check")
    assert lines[first + 1] == './dev test --all -m "not long"'
    hosts = lines.index("for release in trixie bookworm; do", first + 2)
    assert any(line.strip().startswith("./dev xen ") for line in lines[hosts:])
