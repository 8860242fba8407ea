"""Every generated script is clean under the linters of the trade, and every word survives the shell."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor import by_hand
from executor.quote import join, quote
from executor.script import _companion, lines, script
from planner.commands import Compact, Run
from planner.plan import Plan
from tests.planner.scenarios import plans

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*/script.sh"))
PLANS = [*plans()]
every = pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
# Optional checks that do not fit: quotes around plain variables and braces around names are a matter of taste; `[` is
# POSIX and `[[` is not; an assignment whose command fails inside a condition is meant (`got=$?` follows).
LEFT_OUT = "SC2250,SC2248,SC2292,SC2310,SC2311,SC2312"


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip() if done.returncode else ""


@every
def test_shellcheck_finds_nothing(path: Path) -> None:
    assert run("shellcheck", "-s", "sh", "-o", "all", "-e", LEFT_OUT, str(path)) == ""


@every
def test_every_posix_shell_can_read_it(path: Path) -> None:
    for shell in (("dash",), ("busybox", "sh"), ("bash", "--posix")):
        assert run(*shell, "-n", str(path)) == ""


@every
def test_shfmt_would_change_nothing(path: Path) -> None:
    assert run("shfmt", "-d", "-ln", "posix", "-i", "2", str(path)) == ""


@every
def test_the_programs_inside_are_python_and_only_live_scripts_carry_a_receiver(path: Path) -> None:
    text = path.read_text()
    programs = {name: inside(text, name) for name in ("COMPANION", "RECEIVER")}
    for name, program in programs.items():
        compile(program, name, "exec")
    assert bool(programs["COMPANION"]) == ("python3" in text)
    assert bool(programs["RECEIVER"]) == ("class Migration" in text) == ("live" in path.parent.name)


def inside(text: str, name: str) -> str:
    return text.partition(f"<<'END_OF_{name}'\n")[2].partition(f"\nEND_OF_{name}\n")[0]


def test_what_a_script_leaves_out_is_a_comment_and_is_not_asked_of_anybody_by_hand() -> None:
    (step,) = (
        step for name, plan in plans() if name == "create: live, PVH" for step in plan.steps
        if any(isinstance(command, Compact) for command in step.do)
    )  # fmt: skip
    printed = "\n".join(line for command in step.do for line in lines(command, "fail 1"))
    assert "stays as it came" in printed and all(line.startswith("#") for line in printed.splitlines())
    assert not list(by_hand.lines(step.do))


@pytest.mark.parametrize("plan", [plan for _, plan in PLANS], ids=[name for name, _ in PLANS])
def test_the_same_plan_gives_the_same_script(plan: Plan) -> None:
    text = script(plan)
    assert script(plan) == text
    assert plan.id in text
    for step in plan.steps:
        assert f"begin {step.number} {quote(step.title)}" in text
        for command in step.do:
            if isinstance(command, Run):
                assert join(command.argv) in text


def test_no_name_of_the_companion_takes_the_place_of_another() -> None:
    names = [
        node.name for node in ast.parse(_companion(live=True)).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    values = [
        target.id
        for node in ast.parse(_companion(live=True)).body
        if isinstance(node, ast.Assign)
        for each in node.targets
        for target in ast.walk(each)
        if isinstance(target, ast.Name)
    ]
    assert len({*names, *values}) == len(names) + len(values)


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8))
def test_any_word_comes_out_of_a_real_dash_as_it_went_in(words: list[str]) -> None:
    text = f"set -uf\nprintf '%s\\0' {join(tuple(words))}\n"
    done = subprocess.run(["dash"], input=text.encode(), capture_output=True, check=True)
    assert done.stdout == b"".join(word.encode() + b"\0" for word in words)


@pytest.mark.parametrize(
    "word",
    ["", "-rf", "a b", "it's", '"', "$(id)", "`id`", "*", "\n", "a\nb", "\\", "=x", "~", "{a,b}", "é", "#", "!", ";"],
)
@pytest.mark.parametrize("shell", [("dash",), ("busybox", "sh"), ("bash", "--posix")], ids=lambda shell: shell[0])
def test_odd_words_survive_every_shell(word: str, shell: tuple[str, ...]) -> None:
    text = f"printf '%s\\0' {quote(word)}\n"
    done = subprocess.run([*shell], input=text.encode(), capture_output=True, check=True)
    assert done.stdout == word.encode() + b"\0"


def test_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")
