"""Each case in this folder: spec and facts in; plan, preview and script out, byte for byte; `--update` rewrites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from domsnap.preview import preview
from executor.script import script
from planner.compile import compile_plan
from planner.facts import facts_from_json
from planner.plan import Plan, plan_from_json
from schema.read import read_json, read_specs
from schema.validate import check

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/spec.yaml"))
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def compiled(case: Path) -> Plan:
    (spec,) = read_specs((case / "spec.yaml").read_bytes(), "spec.yaml")
    facts = facts_from_json(read_json("facts", (case / "facts.json").read_bytes(), "facts.json"))
    options: dict[str, Any] = {}
    if (case / "options.json").exists():
        options = json.loads((case / "options.json").read_text())
    return compile_plan(options.pop("verb", "create"), spec, facts, **options)


def hold(path: Path, text: str, update: bool) -> None:
    if update:
        path.write_text(text)
    assert path.read_text() == text


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))


@every
def test_the_plan_is_the_one_that_was_reviewed(case: Path, update: bool) -> None:
    plan = compiled(case)
    shown = json.dumps(plan.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    hold(case / "plan.json", shown, update)
    assert check("plan", json.loads(shown), "plan.json") == []
    assert plan_from_json(json.loads(shown)) == plan


@every
def test_the_preview_is_the_one_that_was_reviewed(case: Path, update: bool) -> None:
    hold(case / "preview.txt", preview(compiled(case)), update)


@every
def test_the_script_is_the_one_that_was_reviewed(case: Path, update: bool) -> None:
    hold(case / "script.sh", script(compiled(case)), update)
