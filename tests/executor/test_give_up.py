"""What a spec says of giving up a live capture comes to its receiver, in seconds and bytes."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from executor.migrate import Migration
from planner.commands import Capture, to_json
from planner.compile import compile_plan
from planner.plan import Plan
from schema.diagnostic import Refused
from schema.read import read_specs
from schema.spec import GiveUp, Memory
from tests.planner.hosts import GIB, facts, spec

SPEC = "version: 1\ndomain: web01\nsnapshot: one\nmemory:\n  capture: live\n  give_up: %s\n"


def said(limits: str) -> GiveUp | None:
    (found,) = read_specs((SPEC % limits).encode(), "spec.yaml")
    return found.memory.give_up


@pytest.mark.parametrize("text,limits", [
    ("{after: 30s}", GiveUp(30)), ("{after: 10min}", GiveUp(600)), ("{after: 2 h}", GiveUp(7200)),
    ("{size: 3x}", GiveUp(times=3.0)), ("{size: 1.5x}", GiveUp(times=1.5)), ("{size: 8GiB}", GiveUp(size=8 * GIB)),
    ("{after: 1min, size: 9000000000}", GiveUp(60, 9_000_000_000)),
])  # fmt: skip
def test_what_a_spec_may_say(text: str, limits: GiveUp) -> None:
    assert said(text) == limits


def planned(limits: GiveUp | None) -> Plan:
    return compile_plan("create", spec(memory=Memory("live", give_up=limits)), facts())


@pytest.mark.parametrize("limits,after,size", [
    (None, 0, 0), (GiveUp(30), 30, 0), (GiveUp(times=2.5), 0, 5 * GIB // 2), (GiveUp(7, 3 * GIB), 7, 3 * GIB),
])  # fmt: skip
def test_a_plan_has_it_in_seconds_and_bytes_and_says_so(limits: GiveUp | None, after: int, size: int) -> None:
    (domain,) = facts().domains
    assert domain.memory == GIB
    plan = planned(limits)
    ((step, capture),) = [(s, c) for s in plan.steps for c in s.do if isinstance(c, Capture)]
    assert (capture.after, capture.size) == (after, size)
    assert (f"{after} s" in step.title) == bool(after) and (f"{size // 2**20} MiB" in step.title) == bool(size)
    assert ("given up" in step.title) == bool(limits)


@pytest.mark.parametrize("limits", [GiveUp(size=GIB), GiveUp(size=4096), GiveUp(times=1.0)])
def test_a_limit_that_every_copy_comes_to_is_refused(limits: GiveUp) -> None:
    with pytest.raises(Refused, match="always given up"):
        planned(limits)


def test_the_space_asked_for_is_no_more_than_what_is_kept() -> None:
    def needs(limits: GiveUp | None) -> int:
        return sum(row.needs for row in planned(limits).space if "memory image" in row.what)

    assert needs(GiveUp(size=GIB + 4096)) == GIB + 4096
    assert needs(GiveUp(times=5.0)) == needs(None) == needs(GiveUp(60)) > 2 * GIB


def test_the_receiver_is_told(tmp_path: Path) -> None:
    xl = tmp_path / "bin/xl"
    xl.parent.mkdir()
    xl.write_text(f'#!/bin/sh\nprintf %s "$6" >{tmp_path}/rune\n')
    xl.chmod(0o755)
    capture = Capture(7, f"{tmp_path}/memory.part", 600, 3 * GIB)
    path = {**os.environ, "PATH": f"{xl.parent}:{os.environ['PATH']}"}
    for each, words in ((capture, ["600", str(3 * GIB)]), (replace(capture, after=0, size=0), ["0", "0"])):
        migration = Migration(to_json(each)["capture"], str(tmp_path / "live"), ["receive"], path)
        try:
            migration.process.wait(30)
        finally:
            migration.close()
        assert shlex.split((tmp_path / "rune").read_text())[-2:] == words
