"""Which room may import which, and what the pure rooms may not know of."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("schema", "planner", "executor", "domsnap")  # each may import itself and those before it
LIBRARIES = {
    "schema": {"jsonschema", "yaml"},
    "planner": set[str](),
    "executor": {"jinja2", "qemu"},
    "domsnap": {"click", "jinja2", "markupsafe", "rich", "typer"},
}
# What would make the same spec and facts give another plan: the clock, the host, the environment, chance.
IMPURE = {
    "asyncio", "ctypes", "datetime", "fcntl", "getpass", "glob", "grp", "io", "locale", "multiprocessing", "os",
    "pathlib", "platform", "pwd", "random", "secrets", "select", "shutil", "signal", "socket", "subprocess", "sys",
    "tempfile", "threading", "time", "uuid",
}  # fmt: skip


def files(room: str) -> list[Path]:
    return sorted(file for file in (ROOT / room).rglob("*.py") if file.parent.name != "templates")


def imported(file: Path) -> Iterator[str]:
    """Yield the full names of the modules that a file imports, those inside functions too."""
    package = ".".join(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} of {package} imports by a relative name"
            yield node.module or ""


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_imported_one_way_only(room: str) -> None:
    later = ROOMS[ROOMS.index(room) + 1 :]
    wrong = [f"{file}: {name}" for file in files(room) for name in imported(file) if name.split(".")[0] in later]
    assert files(room)
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_only_its_libraries(room: str) -> None:
    allowed = sys.stdlib_module_names | set(ROOMS) | LIBRARIES[room]
    wrong = [f"{file}: {name}" for file in files(room) for name in imported(file) if name.split(".")[0] not in allowed]
    assert not wrong


def test_the_planner_knows_nothing_of_host_clock_environment_or_chance() -> None:
    wrong = [f"{file}: {name}" for file in files("planner") for name in imported(file) if name.split(".")[0] in IMPURE]
    assert not wrong


def test_the_planner_calls_nothing_that_reads_or_prints() -> None:
    calls = [
        f"{file}:{node.lineno}: {node.func.id}"
        for file in files("planner")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "input", "print"}
    ]
    assert not calls


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_of_a_room_is_a_package(room: str) -> None:
    """Without its __init__.py a folder works in a checkout and is missing from what is installed."""
    assert not [file for file in files(room) if not (file.parent / "__init__.py").exists()]


LEAN = """
import sys
from domsnap.door import run
status = run(["validate", sys.argv[1]])
room = {name.split(".")[0] for name in sys.modules}
print(status, *sorted(room & {"jinja2", "rich", "planner", "executor", "qemu", "pydantic", "asyncio"}))
"""


def test_validate_loads_neither_planner_nor_executor_nor_jinja_nor_rich(tmp_path: Path) -> None:
    spec = tmp_path / "web01.yaml"
    spec.write_text("version: 1\ndomain: web01\nsnapshot: one\n")
    done = subprocess.run([sys.executable, "-c", LEAN, spec], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0"


LAZY = """
import sys, domsnap
print(*sorted({name.split(".")[0] for name in sys.modules} & {"yaml", "jsonschema", "typer"}))
"""


def test_the_python_api_is_imported_on_first_use() -> None:
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "\n"


def test_the_python_api_has_what_it_says() -> None:
    import domsnap

    for name in dir(domsnap):
        assert getattr(domsnap, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'plann'"):
        domsnap.plann  # noqa: B018 - reading the attribute is the test
