"""What the README and the documents say is true: every command in them is run, every file they name is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FACTS = ROOT / "specs" / "facts" / "xen-4.20.json"
ID = re.compile(r"\b[0-9a-f]{8,64}\b")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for language, text in BLOCK.findall(README) if language == kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the spec of the README and recorded facts."""
    (spec,) = blocks("yaml")
    (tmp_path / "web01.yaml").write_text(spec, encoding="utf-8")
    (tmp_path / "facts.json").write_bytes(FACTS.read_bytes())
    return tmp_path


def session(block: str, folder: Path) -> Iterator[str]:
    """Run the commands of a block, those after `$`, and yield them with what they print."""
    bin_folder = str(Path(sys.executable).parent)
    env = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    for line in block.splitlines():
        if line.startswith("$ "):
            argv = ["bash", "-c", line[2:]]
            done = subprocess.run(
                argv,
                cwd=folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                check=False,
            )
            assert done.returncode == 0, done.stdout
            yield f"{line}\n{done.stdout}"


def test_every_command_of_the_readme_prints_what_it_says(folder: Path, request: pytest.FixtureRequest) -> None:
    assert blocks("console")
    for block in blocks("console"):
        printed = "".join(session(block, folder))
        if request.config.getoption("--update", default=False):
            path = ROOT / "README.md"
            path.write_text(path.read_text(encoding="utf-8").replace(block, printed), encoding="utf-8")
        else:
            # The golden cases hold the ids of plans, which change with every command of a plan.
            assert ID.sub("ID", printed) == ID.sub("ID", block)


def test_how_long_a_live_capture_stops_a_guest_was_measured() -> None:
    said = re.search(r"a (\d+) GiB guest stopped it for ([\d.]+) s where `xl save -c` took\s+([\d.]+) s", README)
    assert said
    table = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for way, seconds in (("live", said[2]), ("xl save -c", said[3])):
        found = re.search(rf"^qcow2 +{1024 * int(said[1])} MiB +0 MiB/s  {way} +(\d+)ms", table, re.MULTILINE)
        assert found
        assert float(seconds) == round(int(found[1]) / 1000, 2)


def test_every_command_of_dev_that_is_named_is_there() -> None:
    named = set(re.findall(r"\./dev (\w+)", README))
    assert {"demo", "test", "bundle"} <= named
    told = subprocess.run(["./dev", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert named <= set(re.findall(r"^  (\w+)", told, re.MULTILINE))


def test_dev_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(["./dev", "demolish"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage: ./dev" in done.stderr


@pytest.mark.parametrize(
    "document", ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:schema|planner|executor|domsnap|specs|tests|tools|bench|docs)/[\w./-]*)`", text)
    missing = [name for name in links if not (ROOT / document).parent.joinpath(name).exists()]
    missing += [name for name in paths if not (ROOT / name).exists()]
    assert not missing


def test_the_manual_page_and_completion_one_liners_work(folder: Path) -> None:
    assert "`domsnap man | man -l -`" in README
    assert "`domsnap --install-completion`" in README
    (page,) = session("$ domsnap man | man -l - | head -n 1\n", folder)
    assert "DOMSNAP(8)" in page
    line = (
        "$ domsnap --install-completion; bash -n .bash_completions/domsnap.sh && test -s .bash_completions/domsnap.sh"
    )
    list(session(line, folder))


@pytest.mark.slow
def test_the_demo_works_twice_in_a_row_and_shows_every_spec() -> None:
    told = [
        subprocess.run(["./dev", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2)
    ]
    life, plans = zip(*(each.split("=" * 80, 1) for each in told), strict=True)
    assert plans[0] == plans[1]
    for each in life:
        assert "memory and disks were of one instant each time, and nothing is left over\n" in each
    for spec in (ROOT / "specs").glob("*.yaml"):
        assert f"$ domsnap plan specs/{spec.name} " in told[0]
        assert f"$ domsnap script specs/{spec.name} " in told[0]


@pytest.mark.slow
def test_it_is_installed_by_pipx_with_all_its_files(tmp_path: Path) -> None:
    assert "pipx install ." in README
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", ROOT, source], check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "tools"], check=True)
    subprocess.run([tmp_path / "tools/bin/pip", "install", "-qq", "--disable-pip-version-check", "pipx"], check=True)
    env = {
        **os.environ,
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
    }
    subprocess.run([tmp_path / "tools/bin/pipx", "install", "."], cwd=source, env=env, check=True, capture_output=True)
    domsnap = tmp_path / "bin" / "domsnap"
    spec = ROOT / "specs" / "web01.yaml"
    for words in (["--version"], ["schema", "snapshot"], ["schema", "record"], ["validate", spec], ["man"]):
        assert subprocess.run([domsnap, *words], cwd=tmp_path, capture_output=True, check=True).stdout
