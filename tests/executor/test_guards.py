"""A command with guards: apply, the script and the lines for a person pass it over in the same cases."""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path

import pytest

from executor.by_hand import by_hand
from executor.programs import run
from executor.script import lines
from executor.signals import Signals
from planner.commands import Run

GUARDS = {None: (), True: ("test", "-d", "/"), False: ("test", "!", "-d", "/")}
SHELL = 'run() { "$@"; }\nprobe() { "$@"; }\n'


@pytest.mark.parametrize("when,unless", list(product(GUARDS, GUARDS)))
def test_a_guarded_command_is_carried_out_only_if_both_guards_allow(
    when: bool | None, unless: bool | None, tmp_path: Path
) -> None:
    made = {name: tmp_path / name for name in ("apply", "script", "hand")}

    def command(name: str) -> Run:
        return Run(("mkdir", "--", str(made[name])), when=GUARDS[when], unless=GUARDS[unless])

    run(command("apply"), Signals())
    for text in (SHELL + "\n".join(lines(command("script"), "exit 1")), "\n".join(by_hand(command("hand")))):
        subprocess.run(["dash", "-c", text], check=False, timeout=10)
    wanted = when is not False and unless is not True
    assert {name: path.exists() for name, path in made.items()} == dict.fromkeys(made, wanted)
